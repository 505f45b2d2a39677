"""Programs. Importing this package sets how threads wait, which must be done before torch is imported."""

import os

from scripts.common.threading_environment import limit_spinning

limit_spinning(os.environ)

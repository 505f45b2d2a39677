"""Programs. Importing this package sets how OpenMP threads wait, which must precede the import of torch."""

import os

from scripts.common.threading_environment import limit_spinning

limit_spinning(os.environ)

"""Format numbers, times and sizes."""

import math
import time

from markupsafe import Markup

MINUTE, HOUR = 60, 3600


def plain(value: float, digits: int = 4) -> str:
    """A number with so many significant digits: 12.35 / 0.0003499 / 3.5e-9 / nan.

    Digits before the decimal point are always kept: 1,234,567.
    """
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    power = math.floor(math.log10(abs(rounded)))
    if power >= 9 or power < -4:
        mantissa, exponent = f"{rounded:.{digits - 1}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:,.{max(0, digits - 1 - power)}f}"


def number(value: float | None, digits: int = 4, unit: str = "") -> Markup:
    """A `data` element with the exact and the rounded value; a dash for None."""
    if value is None:
        return Markup('<span class="none">&ndash;</span>')
    said = plain(value, digits).replace("-", "\N{MINUS SIGN}")
    return Markup('<data value="{}">{}</data>').format(repr(value), f"{said} {unit}".strip())


def count(value: int) -> str:
    """1,234 steps, or 12.3 M weights."""
    for size, unit in ((10**9, "G"), (10**6, "M")):
        if value >= size:
            return f"{plain(value / size, 3)} {unit}"
    return f"{value:,}"


def plural(num: int, name: str) -> str:
    """1 view, 1,234 views."""
    return f"{num:,} {name}{'' if num == 1 else 's'}"


def duration(seconds: float) -> str:
    """2 h 05 min, 3 min 12 s, 4.2 s."""
    if seconds < MINUTE:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    if round(seconds) < HOUR:
        minutes, rest = divmod(round(seconds), MINUTE)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / MINUTE), MINUTE)
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes:02d} min"


def day(seconds: float) -> str:
    """Date and time in the local time zone, from seconds since 1970."""
    return time.strftime("%d %B %Y, %H:%M", time.localtime(seconds)).lstrip("0")


def megabytes(num: int) -> str:
    """A size in megabytes (10^6 bytes), or kilobytes if small."""
    return f"{num / 1e6:.1f} MB" if num >= 1e5 else f"{num / 1e3:.0f} kB"

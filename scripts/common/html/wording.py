"""Numbers, times and names as the page says them. All that it returns is safe within HTML."""

import html
import math
import time

MINUTE, HOUR = 60, 3600


def escape(text: object) -> str:
    """Text that came from elsewhere, quotes included."""
    return html.escape(str(text), quote=True)


def plain(value: float, digits: int = 4) -> str:
    """A number with that many significant digits: 12.35 / 0.0003499 / 3.5e-9 / nan.

    What stands before the decimal point is never rounded away: 1,234,567.
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


def number(value: float | None, digits: int = 4, unit: str = "") -> str:
    """A `data` element with the exact value beside the rounded one; a dash where there is none."""
    if value is None:
        return '<span class="none">&ndash;</span>'
    said = _typeset(plain(value, digits)) + (f" {unit}" if unit else "")
    return f'<data value="{value!r}">{said}</data>'


def tick(value: float, step: float) -> str:
    """The mark of an axis whose marks are `step` apart (0: at powers of ten)."""
    if value == 0:
        return "0"
    size = abs(step or value)
    if size >= 1e-4 and abs(value) < 1e6:
        decimals = max(0, -math.floor(math.log10(size) + 1e-9))
        said = f"{value:,.{decimals}f}"
    else:
        mantissa, exponent = f"{value:.6e}".split("e")
        said = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return _typeset(said)


def _typeset(said: str) -> str:
    """A true minus sign, and powers of ten as such."""
    mantissa, power, exponent = said.partition("e")
    if power:
        factor = "" if mantissa == "1" else f"{mantissa}&#8202;&times;&#8202;"
        said = f"{factor}10<sup>{exponent}</sup>"
    return said.replace("-", "&minus;")


def count(value: int) -> str:
    """1,234 steps, or 12.3 M weights."""
    for size, unit in ((10**9, "G"), (10**6, "M")):
        if value >= size:
            return f"{plain(value / size, 3)} {unit}"
    return f"{value:,}"


def plural(num: int, name: str) -> str:
    """1 film, 1,234 films."""
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
    """Day and minute, in this machine's time zone, of a time in seconds since 1970."""
    return time.strftime("%d %B %Y, %H:%M", time.localtime(seconds)).lstrip("0")


def megabytes(num: int) -> str:
    """Of 10^6 bytes."""
    return f"{num / 1e6:.1f} MB" if num >= 1e5 else f"{num / 1e3:.0f} kB"

"""How far the model is from the figures of the published implementation, group by group."""

import time


def parity() -> int:
    """Print the worst deviation of every group; 1 where one is beyond its tolerance."""
    from tests.reference.groups import GROUPS

    print(f"{'group':32}{'arrays':>7}{'worst':>10}{'allowed':>10}{'ratio':>8}  {'array':34}{'seconds':>8}")
    beyond = 0
    for group, figures_of in GROUPS.items():
        begin = time.perf_counter()
        figures = list(figures_of())
        worst = max(figures, key=lambda figure: figure.deviation / figure.tolerance)
        ratio, seconds = worst.deviation / worst.tolerance, time.perf_counter() - begin
        beyond += not all(figure.within for figure in figures)
        print(
            f"{group:32}{len(figures):7}{worst.deviation:10.1e}{worst.tolerance:10.1e}{ratio:8.3f}  "
            f"{worst.name:34}{seconds:8.1f}"
        )
    print(f"{len(GROUPS) - beyond} of {len(GROUPS)} groups within tolerance")
    return int(beyond > 0)

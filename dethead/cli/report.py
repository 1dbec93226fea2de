"""``dethead report``: what an ablation says."""

from pathlib import Path
from typing import Annotated

import typer

from dethead.cli.app import AnnotationsOption, ImagesOption, app


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="--out of dethead ablate.")],
    data: Annotated[Path | None, typer.Option(help="Data folder, where it is not where it was.")] = None,
    val_annotations: AnnotationsOption = None,
    val_images: ImagesOption = None,
) -> None:
    """Report an ablation from its finished runs, also while others still train."""
    from dethead.ablation.report import build_report

    print(build_report(folder, data, annotations=val_annotations, images=val_images))

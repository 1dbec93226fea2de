"""Commands around the inputs of a run: draw the built-in data set, show a config."""

import json
from pathlib import Path
from typing import Annotated

import typer

from dethead import config
from dethead.cli.app import Overrides, app


@app.command()
def scenes(
    folder: Annotated[Path, typer.Argument(help="Where to draw them.")],
    images: Annotated[int, typer.Option(min=2, help="Number of images, train and val together.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same scenes.")] = 0,
) -> None:
    """Draw the built-in data set: street scenes with cars, pedestrians and trucks, in COCO format."""
    from dethead.data.scenes import draw_scenes
    from dethead.training.progress import bar

    with bar("scenes", images) as progress:
        counts = draw_scenes(folder, images, seed=seed, progress=lambda _: progress(1))
    objects = ", ".join(f"{name} {count}" for name, count in counts.objects.items())
    print(f"{folder}: {counts.train_images} train, {counts.val_images} val images; {objects}")


@app.command("config")
def show_config(
    config_file: Annotated[str | None, typer.Argument(help="YAML file or name of a shipped config.")] = None,
    overrides: Overrides = None,
    list_shipped: Annotated[
        bool, typer.Option("--list", help="Name what is shipped: configs, then ablations.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="JSON schema, for editors.")] = False,
) -> None:
    """Show a config with every default spelled out, what is shipped, or the JSON schema."""
    if schema:
        print(json.dumps(config.Run.model_json_schema(), indent=2))
    elif list_shipped:
        for name, path in [*config.shipped().items(), *config.shipped_ablations().items()]:
            print(f"{name:32} {path}")
    elif config_file is None:
        raise config.ConfigError("name a config, or ask for --list or --schema")
    else:
        print(config.dump(config.load(config_file, overrides or ())), end="")

"""Train a GAN from a recipe.

python scripts/train.py --config configs/mnist.yaml
python scripts/train.py --config configs/mnist.yaml train.epochs=5 optim_d.lr=1e-4 --run-name slow_d
python scripts/train.py --config configs/mnist.yaml --resume             go on where that run stopped, exactly
python scripts/train.py --resume result/slow_d train.epochs=300          the same, and further
python scripts/train.py --config configs/mnist.yaml --workers 4          in 4 processes (msrun: on several machines)
"""

import sys
from pathlib import Path

import _clone  # noqa: F401  (makes this clone's gan_mnist importable)

from gan_mnist import cli, distributed, environment, interrupts, launcher, scheduler
from gan_mnist.config import Config, load
from gan_mnist.errors import UserError, run
from gan_mnist.rundir import RunDir


def main() -> int:
    if distributed.is_scheduler():
        return scheduler.run()
    parser = cli.Parser(__doc__)
    parser.add_argument("--config", help="the recipe, a YAML file in configs/")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="change a setting of the recipe")
    parser.add_argument("--run-name", help="results go to result/RUN_NAME/ (default: the recipe's name)")
    parser.add_argument("--device", choices=cli.DEVICES, help="default: the recipe's (auto)")
    parser.add_argument("--workers", type=cli.positive, default=1, metavar="N", help="processes that share the work")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", nargs="?", const=True, metavar="DIR", help="go on with the recipe's run, or DIR's")
    start.add_argument("--overwrite", action="store_true", help="remove the run that is already there")
    parser.add_argument("--dry-run", action="store_true", help="show the resolved settings and networks, and stop")
    arguments = parser.parse_intermixed_args()

    if "=" in str(arguments.resume):  # An override right behind a bare --resume.
        arguments.overrides.append(arguments.resume)
        arguments.resume = True
    overrides = list(arguments.overrides)
    if isinstance(arguments.resume, str):
        folder = Path(arguments.resume)
        if not RunDir(folder).holds_run:
            raise UserError(f"--resume {folder}: holds no run; name a run directory, such as result/mnist")
        arguments.config = arguments.config or RunDir(folder).config
        overrides += [f"name={folder.resolve().name}", f"result_dir={folder.parent}"]
    if not arguments.config:
        raise UserError("which recipe? Give --config configs/mnist.yaml, or --resume DIR; see --help")
    overrides += [f"name={arguments.run_name}"] if arguments.run_name else []
    overrides += [f"device={arguments.device}"] if arguments.device else []
    config = load(arguments.config, overrides)
    if arguments.dry_run:
        return dry_run(config)
    if arguments.workers > 1 and not distributed.is_launched():
        return launcher.launch(arguments.workers, sys.argv)
    return train(config, resume=bool(arguments.resume), overwrite=arguments.overwrite)


def train(config: Config, *, resume: bool, overwrite: bool) -> int:
    """Claim the run directory, load the data, and train."""
    run_dir = RunDir(config.run_dir)
    worker = distributed.worker_here()
    if worker.leads:
        run_dir.require(resume=resume, overwrite=overwrite)
    with run_dir.claim(leads=worker.leads), interrupts.watch() as interrupt:
        distributed.follow_parent(interrupt)
        from gan_mnist.data import load_images  # NumPy starts threads; they must begin with the signals blocked.

        images = load_images(config.data) if worker.local_rank == 0 else None
        environment.prepare(model=config.model.name, log_dir=run_dir.log / worker.folder)
        from gan_mnist import trainer  # MindSpore reads its environment when it is imported.

        return trainer.train(config, images, run_dir, interrupt=interrupt, resume=resume, worker=worker)


def dry_run(config: Config) -> int:
    """Show what would be trained."""
    environment.prepare(model=config.model.name)
    from gan_mnist.data import image_shape
    from gan_mnist.game import build_game
    from gan_mnist.models import parameter_count

    game = build_game(config, image_shape(config.data), steps_per_epoch=1)
    print(config.to_yaml())
    for network, spec in ((game.G, game.spec_g), (game.D, game.spec_d)):
        print(f"{spec}: {parameter_count(network):,} parameters")
    return 0


if __name__ == "__main__":
    distributed.leave(run(main))

"""The command line of train.py."""

import argparse

from scripts.training.processes import add_process_options

HELP = """\
examples:
  python train.py config/quickstart.json
  python train.py config/srn_cars_64.json data.root=/data/srn_cars train.batch=8 optim.lr=5e-5
  python train.py config/srn_cars_128.json data.root=/data/srn_cars transfer=runs/srn_cars_64
  python train.py config/recipe_srn_cars.json data.root=/data/srn_cars --plan
  python train.py config/srn_cars_128.json data.root=/data/srn_cars --processes 4 --restarts 3

keys that are often changed:
  name              the run lives in runs/NAME; the same name resumes it
  data.root         data set: SRN folders, packed, NMR, transforms.json, COLMAP (docs/data.md)
  data.image_size   pixels; pictures of another size are resized
  train.steps       updates in all            train.batch       scenes per process and pass
  train.accumulate  passes per update         train.save_every  steps between checkpoints
  optim.lr          learning rate             seed              all randomness follows from it
  transfer          run, checkpoint or published genvs.pt to take the first weights from
  train.wandb       on, offline or off        train.compile     true: slow start, faster steps
  train.device      auto, cpu, cuda, cuda:N   data.workers      loading processes

what may change in the course of a run (docs/schedules.md lists all of it):
  optim.schedule=cosine optim.decay_from=0.7 model.noise.start=high model.noise.end=low
  model.loss.rgb='{"start": 1, "end": 0.1, "begin": 0.2, "until": 0.6}'   from 20 to 60 % of the steps

A recipe has stages, each a run in runs/RECIPE/NUMBER_STAGE that begins with the weights of the one before;
stages.STAGE.key=value changes one of them.
A run directory holds config.json, log.jsonl, samples/ and checkpoints/, and if something went wrong,
warnings.jsonl. Ctrl-C or SIGTERM saves and leaves.

Exit codes: 0 done, or stopped by a signal and saved; 2 bad input; 1 anything else.
"""


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="train.py",
        description="Train a model of novel views: python train.py CONFIG.json [key=value ...]",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="JSON file of a run or recipe, such as config/quickstart.json")
    parser.add_argument("changes", nargs="*", metavar="key=value", help="changes to the config")
    parser.add_argument("--stage", metavar="NAME", help="of a recipe, run this stage alone")
    parser.add_argument(
        "--plan", action="store_true", help="try three steps of everything, print what it costs, and leave"
    )
    add_process_options(parser)
    return parser

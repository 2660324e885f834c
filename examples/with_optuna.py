"""Search for the learning rate and the recipe of the report's CNN with Optuna, and stop bad runs early.

    pip install optuna
    python examples/with_optuna.py data/cifar10 --trials 20 --epochs 10

Each trial is a run directory below --out, like those of fastcifar train. Start it again with the same --out to use the
finished runs again: no run is trained twice.
"""

import argparse
from typing import Any

import optuna

import fastcifar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a dataset directory, made by fastcifar convert")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", default="runs/optuna")
    options = parser.parse_args()

    def objective(trial: optuna.Trial) -> float:
        def watch(line: dict[str, Any]) -> None:
            trial.report(line["val_accuracy"], line["epoch"])
            if trial.should_prune():
                raise optuna.TrialPruned

        summary = fastcifar.train_run(
            experiment=2,
            data=options.data,
            out=options.out,
            epochs=options.epochs,
            lr=trial.suggest_categorical("lr", [3e-4, 1e-3, 3e-3]),
            recipe=trial.suggest_categorical("recipe", ["none", "standard", "standard,cutout=8"]),
            watch=watch,
        )
        return float(summary["val_accuracy"])

    sampler, pruner = optuna.samplers.TPESampler(seed=0), optuna.pruners.MedianPruner(n_startup_trials=3)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=options.trials)
    print(f"best: {100 * study.best_value:.1f} % in validation with {study.best_params}")


if __name__ == "__main__":
    main()

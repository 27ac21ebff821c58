"""Label photos with Timelapse, round by round, while a model learns from your labels.

Fill in the settings below, save this file, and start it in a terminal::

    python label_in_timelapse.py

What happens then: the program trains, and writes a list of the photos that it wants to know about. You label these in
Timelapse, come back to the terminal and press Enter. It learns from your labels and asks about the next photos. Type
``q`` and Enter to stop. Start this file again, tomorrow or after a power cut, and it goes on with the same question.

The clicks in Timelapse are described in the README, under "One round", and in docs/labels.md.
"""

import logging
import sys
from pathlib import Path

from camera_trap_al import RunResult, run_active_learning
from camera_trap_al.exceptions import CameraTrapALError
from camera_trap_al.interchange.timelapse_template import write_template
from camera_trap_al.photos.folders import scan_folder

# ---- Settings: change what is right of the = signs. Keep the quotes, and the r in front of a folder. -----------------

# Photos whose species are known already, with one folder for each species in it. A handful per species is enough to
# begin with. An empty folder says that there is such a species, too.
LABELLED = r"D:\photos\labelled"

# Photos that nobody has labelled, in folders of any name, best one for each camera. You open this folder in Timelapse.
UNLABELLED = r"D:\photos\new"

# Labelled photos that only measure how good the model is, in folders as above; take them from other places or nights.
# None if you have no such photos: then some of the photos that you are asked about measure it.
VALIDATION = None

# Where the program keeps its work and puts the trained model. It makes this folder.
RUN_FOLDER = r"D:\photos\Active Learning Files"

# How many photos to ask about before the program learns again.
PHOTOS_PER_ROUND = 100

# How you hand over your labels. None: you export a CSV from Timelapse and put it into the folder new_labels_bin.
# "timelapse": the program looks into Timelapse's own file beside the photos, and you need not export anything.
LABELS_FROM = None

# Which photos to ask about. "auto" also looks for rare species; the README lists all the choices.
STRATEGY = "auto"

# The network that looks at the photos, and whether it starts with what others have taught it. That is downloaded once;
# without Internet, write False, or download the file elsewhere and name it in pretrained_weights (see the README).
NETWORK = "resnet18"
PRETRAINED = True

# How often the network goes through the labelled photos in its first training. More takes longer.
EPOCHS = 5

# ---- From here on nothing needs to be changed. -----------------------------------------------------------------------


def make_template() -> None:
    """Make a template with the species for Timelapse, unless the photos have one already."""
    if not list(Path(UNLABELLED).glob("*.tdb")):
        print(write_template(UNLABELLED, scan_folder(Path(LABELLED)).folders))


def label() -> RunResult:
    """Ask, learn, and ask again, until you type q or every photo is labelled."""
    return run_active_learning(
        train_data=LABELLED,
        unlabelled_data=UNLABELLED,
        validation_data=VALIDATION,
        output_dir=RUN_FOLDER,
        active_batch=PHOTOS_PER_ROUND,
        active_learning_strategy=STRATEGY,
        embedding_arch=NETWORK,
        use_pretrained=PRETRAINED,
        embedding_train_num_epochs=EPOCHS,
        label_source=LABELS_FROM,
        class_weight="balanced",  # a rare species counts as much as a common one
        classifier="mlp_fast",
    )


def main() -> None:
    """Label, and say what came of it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        make_template()
        result = label()
    except CameraTrapALError as error:  # these say what is wrong and what to do; where in the program helps nobody
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"Photos that you labelled: {result.labels_given}, in this many rounds: {result.rounds}")
    print(f"How good the model is:  {Path(RUN_FOLDER) / 'report.html'} (open it in a browser)")
    print(f"The other photos:       {Path(RUN_FOLDER) / 'predictions.csv'}")
    print(f"The trained model:      {result.export_dir}")


if __name__ == "__main__":
    main()

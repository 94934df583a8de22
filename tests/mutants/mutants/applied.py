"""A plugin of pytest: breaks the service in its process, as the mutant does that is named.

`MUTANT=keeps-room pytest -p mutants.applied …`
"""

import os
from importlib.metadata import entry_points

(entry,) = entry_points(group="aggregator.stores", name=os.environ["MUTANT"])
entry.load().change(setattr)

"""The names of the optimizers, readable without torch."""

from mriscope.errors import UnknownNameError

OPTIMIZERS = (
    *("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Muon", "NAdam", "RAdam", "RMSprop"),
    *("Rprop", "SGD"),
)
"""Those of torch.optim whose step needs dense gradients alone; a test compares them with torch."""


def check_optimizer_name(name: str) -> None:
    """Refuse an optimizer that does not exist.

    Raises:
        UnknownNameError: the message names the near ones.

    Example:
        >>> check_optimizer_name("AdamW")
    """
    if name not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS)

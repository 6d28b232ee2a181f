"""Options that several commands share, declared once.

A command names one parameter for a group; the decorator replaces it in the signature that typer reads by the
group's options, and builds the parameter's value from what was given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Command = Callable[..., None]


@dataclass(frozen=True, slots=True)
class OptionGroup:
    """Options that together make one value."""

    parameter: str
    """The parameter of the command that takes the value."""
    options: Mapping[str, tuple[Any, Any]]
    """Annotated type and default by name; names differ from all other parameters of the command."""
    build: Callable[[dict[str, Any]], Any]
    """Makes the value from the options by name."""

    def __call__(self, command: Command) -> Command:
        """Decorate a command."""
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for parameter in signature.parameters.values() if parameter.name != self.parameter]
        parameters = [*own, *self._parameters()]

        def run(**given: Any) -> None:
            values = {name: given.pop(name) for name in self.options}
            command(**given, **{self.parameter: self.build(values)})

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    def _parameters(self) -> list[inspect.Parameter]:
        return [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in self.options.items()
        ]

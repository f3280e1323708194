"""YAML without its surprises: no aliases, no tags, and of YAML 1.2's core schema only what JSON has.

`no` is a text, `1:30` too, and a date stays as it was written. Values are built from events, not by PyYAML's own
composer: that one recurses in C, and would follow an alias a billion times.
"""

import re
from typing import Any, NoReturn

import yaml

from crewd.config.run_file.bounds import DEPTH_MAX, INTEGER_MAX
from crewd.config.run_file.problems import Code, Finds, refuse, shown

# libyaml where there is one: thirty times as fast.
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_WHOLE = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NO_NAME = object()


def read_yaml(text: str, finds: Finds, source: str) -> Any:
    """Read one document. Raises RunRefused at what ends the reading; what does not is added to `finds`."""
    builder = _Builder(finds, source)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.YAMLError as error:
        refuse(source, Code.BAD_SYNTAX, _words(error), "see https://yaml.org for how YAML is written")
    except RecursionError:  # in the scanner that is written in Python
        refuse(source, Code.TOO_LARGE, "is nested too deeply", "flatten it")
    return builder.root


class _Open:
    """A list or table that is not closed yet."""

    def __init__(self, value: Any, place: tuple[object, ...]) -> None:
        self.value = value
        self.place = place
        self.name: Any = _NO_NAME  # of the entry whose value comes next

    @property
    def wants_name(self) -> bool:
        return isinstance(self.value, dict) and self.name is _NO_NAME

    def next_place(self) -> tuple[object, ...]:
        return (*self.place, len(self.value) if isinstance(self.value, list) else self.name)

    def put(self, value: Any) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        else:
            self.value[self.name] = value
            self.name = _NO_NAME


class _Builder:
    """Builds a value out of events, one after the other."""

    def __init__(self, finds: Finds, source: str) -> None:
        self.root: Any = None
        self._finds = finds
        self._source = source
        self._opened: list[_Open] = []
        self._documents = 0

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._refuse(Code.BAD_SYNTAX, f"line {line}: a second document begins", "one file, one run")
            case yaml.AliasEvent():
                message = f"line {line}: *{event.anchor} is an alias"
                self._refuse(Code.BAD_SYNTAX, message, "write it out, or use defaults")
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._opened.pop()
            case yaml.ScalarEvent() | yaml.CollectionStartEvent() if event.tag not in (None, "!"):
                message = f"line {line}: {shown(event.tag)} is a tag"
                self._refuse(Code.BAD_SYNTAX, message, "write the value without it")
            case yaml.NodeEvent() if self._opened and self._opened[-1].wants_name:
                self._take_name(event, line)
            case yaml.NodeEvent():
                self._take_value(event, line)
            case _:
                pass  # the ends of the document and of the stream

    def _take_name(self, event: Any, line: int) -> None:
        above = self._opened[-1]
        if not isinstance(event, yaml.ScalarEvent):
            self._refuse(Code.BAD_SYNTAX, f"line {line}: a name is a list or a table", "write a text")
        above.name = str(event.value)
        if above.name in above.value:
            message = f"line {line}: {shown(above.name)} stands twice"
            self._finds.add(above.next_place(), Code.DUPLICATE_KEY, message, "keep one")

    def _take_value(self, event: Any, line: int) -> None:
        above = self._opened[-1] if self._opened else None
        place = above.next_place() if above is not None else ()
        value = _value(event, place, self._finds)
        if above is None:
            self.root = value
        else:
            above.put(value)
        if isinstance(value, list | dict):
            if len(self._opened) >= DEPTH_MAX:
                self._refuse(Code.TOO_LARGE, f"line {line}: is nested deeper than {DEPTH_MAX}", "flatten it")
            self._opened.append(_Open(value, place))

    def _refuse(self, code: Code, message: str, next_action: str) -> NoReturn:
        refuse(self._source, code, message, next_action)


def _value(event: Any, place: tuple[object, ...], finds: Finds) -> Any:
    if isinstance(event, yaml.SequenceStartEvent):
        return []
    if isinstance(event, yaml.MappingStartEvent):
        return {}
    is_plain = event.implicit[0] and event.tag != "!"  # in quotes, or marked as a text
    return _scalar(event.value, place, finds) if is_plain else event.value


def _scalar(text: str, place: tuple[object, ...], finds: Finds) -> Any:
    """Tell what a text without quotes is."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text) if len(text) <= 20 else INTEGER_MAX  # refused by its size; Python cannot read very long ones
    if _OTHER_BASE.fullmatch(text):
        return int(text, 0)
    if _NUMBER.fullmatch(text):
        return float(text)
    if _NO_NUMBER.fullmatch(text):
        finds.add(
            place, Code.VALUE_OUT_OF_RANGE, f"{shown(text)} is no finite number", "put it in quotes, or mend it"
        )
    return text


def _words(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark is not None else str(problem)

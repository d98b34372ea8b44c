"""Writes and reads XML: escaped, checked, and without entities or document types."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import escape, quoteattr

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from integrations.annotations import Attribute
from regionspot.errors import InputError

# What XML 1.0 has no way to write (section 2.2).
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# A parser would turn a carriage return into a line feed.
_AS_REFERENCE = {"\r": "&#13;"}


def name_problem(name: str) -> str:
    """Why XML cannot hold the name of an image; empty where it can."""
    return "XML cannot hold a character of its name" if _ILLEGAL.search(name) else ""


def checked(text: str) -> str:
    """The text, if XML can hold it.

    Raises:
        InputError: it holds a control character or the like.
    """
    if found := _ILLEGAL.search(text):
        raise InputError(f"{text!r} holds {found.group()!r}, which XML cannot; rename it")
    return text


def check_names(path: Path, names: Iterable[str]) -> None:
    """Refuse names of classes that XML cannot hold.

    Raises:
        InputError: one holds a control character or the like; the message begins with the path.
    """
    for name in names:
        try:
            checked(name)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def start(tag: str, **attributes: str | int | float) -> str:
    """An opening tag; a trailing underscore of a keyword is dropped (`id_`)."""
    pairs = (f" {k.rstrip('_')}={quoteattr(checked(str(v)))}" for k, v in attributes.items())
    return f"<{tag}{''.join(pairs)}>"


def leaf(tag: str, text: str | int | float, **attributes: str | int | float) -> str:
    """An element with text and no children."""
    return f"{start(tag, **attributes)}{escape(checked(str(text)), _AS_REFERENCE)}</{tag}>"


def read_xml(path: Path) -> Element:
    """The root of an XML file.

    Raises:
        InputError: it cannot be read, is not XML, or declares a document type or entities.
    """
    try:
        root: Element = parse(path, forbid_dtd=True).getroot()
        return root
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ParseError as error:
        raise InputError(f"{path}: line {error.position[0]} is not XML: {error}") from error
    except (DefusedXmlException, ValueError, LookupError) as error:
        raise InputError(
            f"{path} declares a document type, entities or an encoding that is not read here; "
            "remove the declaration"
        ) from error


def attribute_text(value: Attribute) -> str:
    """A value as text; `parse_attribute` turns it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def parse_attribute(text: str) -> Attribute:
    """The value that a text stands for: a number or truth only where it is written as one."""
    if text in ("true", "false"):
        return text == "true"
    kinds: tuple[Any, ...] = (int, float)
    for kind in kinds:
        try:
            value: int | float = kind(text)
        except ValueError:
            continue
        if str(value) == text:
            return value
    return text or None

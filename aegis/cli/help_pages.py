"""Describe the commands as data, and write a man page and completion scripts from it; all of it comes from click."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from typing import NamedTuple

import click

from aegis.cli.click_options import Implied

__all__ = ["SHELLS", "completion_script", "man_page"]

SHELLS = ("bash", "zsh", "fish")
_FILES = re.compile(r"FILE|DIR|MODULE|WIT|COMPONENT")


class _OptionHelp(NamedTuple):
    """An option: its spellings, the value it takes, its choices and its help."""

    names: tuple[str, ...]
    value: str
    choices: tuple[str, ...]
    text: str
    limit: bool

    @property
    def attached(self) -> bool:
        """Whether the value is optional, and follows an equals sign."""
        return self.value.startswith("[=")


class _CommandHelp(NamedTuple):
    """A command: its name, usage, text and options; the group itself has an empty name."""

    name: str
    usage: str
    text: str
    options: tuple[_OptionHelp, ...]
    words: tuple[str, ...]
    """The words that the first argument may be; empty if it is a file."""
    summary: str


def _commands(group: click.Group) -> list[_CommandHelp]:
    context = click.Context(group, info_name="aegis")
    found = [_described("", group, context, tuple(group.list_commands(context)))]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append(_described(name, command, click.Context(command, parent=context, info_name=name), ()))
    return found


def _described(name: str, command: click.Command, context: click.Context, words: tuple[str, ...]) -> _CommandHelp:
    params = command.get_params(context)
    first = next((param for param in params if isinstance(param, click.Argument)), None)
    if first is not None and isinstance(first.type, click.Choice):
        words = tuple(map(str, first.type.choices))
    usage = " ".join(["aegis", *filter(None, [name]), *command.collect_usage_pieces(context)])
    options = tuple(_option(param, context) for param in params if isinstance(param, click.Option))
    text = cleandoc(command.help or "")
    return _CommandHelp(name, usage, text, options, words, text.split("\n", 1)[0])


def _option(option: click.Option, context: click.Context) -> _OptionHelp:
    choices = tuple(map(str, option.type.choices)) if isinstance(option.type, click.Choice) else ()
    if isinstance(option, Implied):
        choices = option.described.known
    bare = option.is_flag or option.count
    value = "" if bare else option.metavar or ("|".join(choices) if choices else "VALUE")
    text = (option.get_help_record(context) or ("", ""))[1]
    return _OptionHelp(tuple(option.opts), value, choices, text, (option.name or "").startswith("limit_"))


# -- the man page ------------------------------------------------------------------------------------------------------


def man_page(group: click.Group, version: str) -> str:
    """Return the man page of all commands, ``aegis(1)``, in the macros of man(7)."""
    whole, *commands = _commands(group)
    lines = [f'.TH AEGIS 1 "" "aegis {_roff(version)}" "User Commands"']
    lines += [".SH NAME", "aegis \\- run untrusted WebAssembly with nothing granted", ".SH SYNOPSIS"]
    lines += [f".B {_roff(whole.usage)}", ".SH DESCRIPTION", *_paragraphs(whole.text)]
    lines += [".SH OPTIONS", *_roff_options(whole.options), ".SH COMMANDS"]
    for command in commands:
        lines += [f".SS {_roff(command.usage)}", *_paragraphs(command.text)]
        lines += _roff_options(option for option in command.options if not option.limit)
    limits = {option.names: option for command in commands for option in command.options if option.limit}
    lines += [".SH LIMITS", "Options of the commands run, serve, fuzz and validate. The value none lifts a limit."]
    return "\n".join([*lines, *_roff_options(limits.values()), ""])


def _roff(text: str) -> str:
    """Return text in which no character has a meaning of its own in roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield ".PP"
        yield from map(_roff, paragraph.split("\n"))


def _roff_options(options: Iterable[_OptionHelp]) -> Iterator[str]:
    for option in options:
        value = option.value if option.attached or not option.value else f" {option.value}"
        yield ".TP"
        yield f"\\fB{_roff(', '.join(option.names))}\\fR{_roff(value)}"
        yield _roff(option.text)


# -- completion --------------------------------------------------------------------------------------------------------


def completion_script(group: click.Group, shell: str) -> str:
    """Return the completion of a shell as a script. It has all names in it, so completion starts no Python."""
    make = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    return "\n".join([f"# Completion of aegis for {shell}, written by `aegis completion {shell}`.", *make(group), ""])


def _spelled(option: _OptionHelp) -> Iterator[str]:
    for name in option.names:
        yield name
        if option.attached:
            yield from (f"{name}={choice}" for choice in option.choices)


def _bash(group: click.Group) -> Iterator[str]:
    whole, *commands = _commands(group)
    yield "_aegis() {"
    yield '    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" command="" first="" at=1'
    yield "    COMPREPLY=()"
    yield "    while ((at < COMP_CWORD)); do"
    yield '        case "${COMP_WORDS[at]}" in'
    yield "            --) return ;;"
    yield f"            {'|'.join(_valued(whole.options))}) ((at += 1)) ;;"
    yield "            -*) ;;"
    yield '            *) if [[ -z $command ]]; then command="${COMP_WORDS[at]}"; else first="${COMP_WORDS[at]}"; fi ;;'
    yield "        esac"
    yield "        ((at += 1))"
    yield "    done"
    yield '    local options="" words="" values="" files=""'
    yield '    case "$command" in'
    for command in (whole, *commands):
        yield f'        "{command.name}")'
        yield f'            options="{" ".join(word for option in command.options for word in _spelled(option))}"'
        if command.words:
            yield f'            [[ -n $first ]] || words="{" ".join(command.words)}"'
        yield '            case "$before" in'
        for option in command.options:
            if option.value and not option.attached:
                yield f"                {'|'.join(option.names)}) {_bash_value(option)} ;;"
        yield "            esac ;;"
    yield "    esac"
    yield '    if [[ -n $values ]]; then mapfile -t COMPREPLY < <(compgen -W "$values" -- "$word")'
    yield '    elif [[ -n $files ]]; then [[ $files == yes ]] && mapfile -t COMPREPLY < <(compgen -f -- "$word")'
    yield '    elif [[ $word == -* ]]; then mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")'
    yield '    elif [[ -n $words ]]; then mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")'
    yield '    else mapfile -t COMPREPLY < <(compgen -f -- "$word"); fi'
    yield "}"
    yield "complete -o filenames -o nosort -F _aegis aegis"


def _bash_value(option: _OptionHelp) -> str:
    if option.choices:
        return f'values="{" ".join(option.choices)}"'
    return f"files={'yes' if _FILES.search(option.value) else 'no'}"


def _valued(options: Iterable[_OptionHelp]) -> list[str]:
    return [name for option in options if option.value and not option.attached for name in option.names]


def _zsh(group: click.Group) -> Iterator[str]:
    yield "#compdef aegis"
    yield "# The rules are those of bash, which zsh's bashcompinit reads."
    yield "autoload -Uz +X bashcompinit && bashcompinit"
    for line in _bash(group):
        yield re.sub(r"mapfile -t COMPREPLY < <\((.*?)\)(?=;|$)", r'COMPREPLY=("${(@f)$(\1)}")', line).replace(
            " -o nosort", ""
        )


def _fish(group: click.Group) -> Iterator[str]:
    whole, *commands = _commands(group)
    yield "complete -c aegis -n __fish_use_subcommand -f"
    for command in commands:
        yield f"complete -c aegis -n __fish_use_subcommand -f -a {command.name} -d {_fish_word(command.summary)}"
    for command in (whole, *commands):
        test = f"'__fish_seen_subcommand_from {command.name}'" if command.name else "__fish_use_subcommand"
        if command.name and command.words:
            yield f"complete -c aegis -n {test} -a {_fish_word(' '.join(command.words))}"
        for option in command.options:
            names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
            value = "" if not option.value or option.attached else " -r" if _FILES.search(option.value) else " -x"
            choices = f" -a {_fish_word(' '.join(option.choices))}" if option.choices else ""
            yield f"complete -c aegis -n {test} {' '.join(names)}{value}{choices} -d {_fish_word(option.text)}"


def _fish_word(text: str) -> str:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{quoted}'"

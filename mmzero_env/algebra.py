"""Exact values of short expressions, computed with rational arithmetic under caps.

A tiny replacement for a computer algebra system: enough to see that ``7/2`` is
``3.5``, that ``2*pi`` is ``pi*2`` and that ``sqrt(8)`` is ``2*sqrt(2)``, and
incapable of hanging. Every size that could grow (characters, nesting, terms,
digits, powers) has a cap; beyond it an expression simply has no known value.

Syntax: numbers, single-letter symbols, ``pi``, ``sqrt(...)``, ``+ - * / ^ **``,
brackets, a postfix ``!`` on small integers, and juxtaposition as multiplication
(``2x``, ``(1)(2)``). Symbols commute. A longer run of letters is read as a
product of its letters, the way the published grader reads it.

What it does not know: trigonometry, logarithms, complex numbers, and square roots
of anything but a rational number.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 1_000
MAX_TOKENS = 150
MAX_DEPTH = 40
MAX_TERMS = 16
MAX_BITS = 4096
MAX_POWER = 64
MAX_EXPONENT_DIGITS = 3
LARGEST_FACTORIAL = 20
LARGEST_TRIAL_DIVISOR = 2_000

# A monomial: (symbol, power) pairs sorted by symbol, powers non-zero, possibly
# negative. The symbol "√7" stands for the square root of the prime 7 and always
# has power 1, because its square is folded into the coefficient.
Monomial = tuple[tuple[str, int], ...]
Polynomial = dict[Monomial, Fraction]

_ONE: Polynomial = {(): Fraction(1)}
_NUMBER = re.compile(
    r"(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|0+|[1-9][0-9]*"
)
_NAME = re.compile(r"[^\W\d]\w*")
_NAME_PART = re.compile(r"[0-9]+|.", re.DOTALL)
# Short names that mean a function or a constant without a finite value, never a
# product of letters: those of the algebra system behind the published grader, and
# the key words of the language it parses with.
_RESERVED = frozenset(
    "all csc eye ff fft frac fu gff hn1 hn2 id im jn li ln nan ntt oo re rf yn zoo "
    "as if in is or".split()
)


class _Unknown(Exception):
    """The text is no expression of this grammar, or it exceeds a cap."""


@dataclass(frozen=True, eq=False)
class Value:
    """A quotient of two sums of monomials; build it with :func:`evaluate`.

    Attributes:
        top: Numerator.
        bottom: Denominator; 1 whenever it could be divided out.
    """

    top: Polynomial
    bottom: Polynomial

    @property
    def number(self) -> Fraction | None:
        """The rational number this is, or None if a symbol or a root remains."""
        if self.bottom != _ONE or any(monomial != () for monomial in self.top):
            return None
        return self.top.get((), Fraction(0))

    @property
    def key(self) -> tuple[object, ...]:
        """Hashable form; equal keys mean equal values.

        The converse holds unless a denominator with several terms could be
        cancelled, which is not attempted.
        """
        lead = self.bottom[min(self.bottom)]
        return (
            tuple(sorted((m, c / lead) for m, c in self.top.items())),
            tuple(sorted((m, c / lead) for m, c in self.bottom.items())),
        )


def evaluate(text: str) -> Value | None:
    """The exact value of an expression.

    Args:
        text: An expression without any white space.

    Returns:
        Its value, or None if the text is not of this grammar, is undefined (a
        division by zero) or exceeds a cap.
    """
    if len(text) > MAX_CHARS:
        return None
    try:
        return _Parser(_tokens(text)).whole()
    except (_Unknown, ZeroDivisionError):
        return None


def same(left: Value, right: Value) -> bool:
    """Whether two values are equal, decided by cross multiplication."""
    try:
        return _multiply(left.top, right.bottom) == _multiply(right.top, left.bottom)
    except _Unknown:
        return False


def _tokens(text: str) -> list[tuple[str, str]]:
    """Cuts a text into (kind, text) pairs: "number", "symbol", "sqrt" or "mark"."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        if match := _NUMBER.match(text, at):
            found.append(("number", match.group()))
        elif match := _NAME.match(text, at):
            found.extend(_split_name(match.group()))
        elif text.startswith("**", at):
            found.append(("mark", "^"))
            at += 2
            continue
        elif text[at] in "+-*/^()!":
            found.append(("mark", text[at]))
            at += 1
            continue
        else:
            raise _Unknown
        at = match.end()
    if len(found) > MAX_TOKENS:
        raise _Unknown
    return found


def _split_name(name: str) -> list[tuple[str, str]]:
    if name == "sqrt":
        return [("sqrt", name)]
    if name in _RESERVED:
        raise _Unknown
    if len(name) == 1 or "_" in name or _is_greek(name):
        return [("symbol", name)]
    parts = _NAME_PART.findall(name)
    return [("number" if part[0] in "0123456789" else "symbol", part) for part in parts]


def _is_greek(name: str) -> bool:
    try:
        unicodedata.lookup(f"GREEK SMALL LETTER {name}")
    except KeyError:
        return False
    return True


class _Parser:
    """Recursive descent over the tokens, computing values on the way."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def whole(self) -> Value:
        value = self._sum()
        if self._at != len(self._tokens):
            raise _Unknown
        return value

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _take(self, mark: str) -> bool:
        if self._peek() == ("mark", mark):
            self._at += 1
            return True
        return False

    def _sum(self) -> Value:
        value = self._product()
        while True:
            if self._take("+"):
                value = _add(value, self._product())
            elif self._take("-"):
                value = _add(value, _negate(self._product()))
            else:
                return value

    def _product(self) -> Value:
        value = self._signed()
        while True:
            kind, text = self._peek()
            if self._take("*"):
                value = _times(value, self._signed())
            elif self._take("/"):
                value = _times(value, _invert(self._signed()))
            elif kind in ("number", "symbol", "sqrt") or text == "(":
                value = _times(value, self._power())
            else:
                return value

    def _signed(self) -> Value:
        negative = False
        while (kind_text := self._peek()) in (("mark", "+"), ("mark", "-")):
            negative ^= kind_text[1] == "-"
            self._at += 1
        value = self._power()
        return _negate(value) if negative else value

    def _power(self) -> Value:
        base = self._atom()
        while self._take("!"):
            base = _factorial(base)
        if not self._take("^"):
            return base
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Unknown
        exponent = self._signed()
        self._depth -= 1
        return _raise(base, exponent)

    def _atom(self) -> Value:
        kind, text = self._peek()
        self._at += 1
        if kind == "number":
            return Value({(): _number(text)}, _ONE) if _number(text) else Value({}, _ONE)
        if kind == "symbol":
            return Value({((text, 1),): Fraction(1)}, _ONE)
        if kind == "sqrt" or text == "(":
            if kind == "sqrt" and not self._take("("):
                raise _Unknown
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise _Unknown
            value = self._sum()
            self._depth -= 1
            if not self._take(")"):
                raise _Unknown
            return _square_root(value) if kind == "sqrt" else value
        raise _Unknown


def _number(text: str) -> Fraction:
    mantissa, _, exponent = text.lower().partition("e")
    if len(exponent.lstrip("+-0")) > MAX_EXPONENT_DIGITS:
        raise _Unknown
    return Fraction(f"{mantissa}e{exponent}" if exponent else mantissa.rstrip(".") or "0")


def _capped(polynomial: Polynomial) -> Polynomial:
    if len(polynomial) > MAX_TERMS:
        raise _Unknown
    for coefficient in polynomial.values():
        if max(coefficient.numerator.bit_length(), coefficient.denominator.bit_length()) > MAX_BITS:
            raise _Unknown
    return polynomial


def _multiply_monomials(left: Monomial, right: Monomial) -> tuple[Monomial, int]:
    """The product of two monomials and the integer that squared roots release."""
    powers = dict(left)
    factor = 1
    for symbol, power in right:
        total = powers.pop(symbol, 0) + power
        if symbol[0] == "√" and total == 2:
            factor *= int(symbol[1:])
        elif total:
            powers[symbol] = total
    return tuple(sorted(powers.items())), factor


def _multiply(left: Polynomial, right: Polynomial) -> Polynomial:
    product: Polynomial = {}
    for m, a in left.items():
        for n, b in right.items():
            monomial, factor = _multiply_monomials(m, n)
            total = product.get(monomial, Fraction(0)) + a * b * factor
            if total:
                product[monomial] = total
            else:
                product.pop(monomial, None)
    return _capped(product)


def _plus(left: Polynomial, right: Polynomial) -> Polynomial:
    total = dict(left)
    for monomial, coefficient in right.items():
        value = total.get(monomial, Fraction(0)) + coefficient
        if value:
            total[monomial] = value
        else:
            total.pop(monomial, None)
    return _capped(total)


def _quotient(top: Polynomial, bottom: Polynomial) -> Value:
    """A value whose one-term denominator, if it is one, has been divided out."""
    if not bottom:
        raise ZeroDivisionError
    if len(bottom) > 1:
        return Value(top, bottom)
    ((monomial, coefficient),) = bottom.items()
    inverse: Polynomial = {(): 1 / coefficient}
    for symbol, power in monomial:
        if symbol[0] == "√":
            inverse = _multiply(inverse, {((symbol, 1),): Fraction(1, int(symbol[1:]))})
        else:
            inverse = _multiply(inverse, {((symbol, -power),): Fraction(1)})
    return Value(_multiply(top, inverse), _ONE)


def _add(left: Value, right: Value) -> Value:
    if left.bottom == right.bottom:
        return _quotient(_plus(left.top, right.top), left.bottom)
    top = _plus(_multiply(left.top, right.bottom), _multiply(right.top, left.bottom))
    return _quotient(top, _multiply(left.bottom, right.bottom))


def _times(left: Value, right: Value) -> Value:
    return _quotient(_multiply(left.top, right.top), _multiply(left.bottom, right.bottom))


def _negate(value: Value) -> Value:
    return Value({m: -c for m, c in value.top.items()}, value.bottom)


def _invert(value: Value) -> Value:
    return _quotient(value.bottom, value.top)


def _factorial(value: Value) -> Value:
    number = value.number
    if number is None or number.denominator != 1 or not 0 <= number <= LARGEST_FACTORIAL:
        raise _Unknown
    return Value({(): Fraction(math.factorial(int(number)))}, _ONE)


def _raise(base: Value, exponent: Value) -> Value:
    power = exponent.number
    if power == Fraction(1, 2):
        return _square_root(base)
    if power is None or power.denominator != 1 or abs(power) > MAX_POWER:
        raise _Unknown
    if power < 0:
        base, power = _invert(base), -power
    result = Value(_ONE, _ONE)
    left = int(power)
    while left:
        if left & 1:
            result = _times(result, base)
        left >>= 1
        base = _times(base, base) if left else base
    return result


def _square_root(value: Value) -> Value:
    """The root of a non-negative rational number, in lowest terms of prime roots."""
    number = value.number
    if number is None or number < 0:
        raise _Unknown
    if number == 0:
        return value
    rest = number.numerator * number.denominator
    outside = Fraction(1, number.denominator)
    if (exact := math.isqrt(rest)) ** 2 == rest:
        return Value({(): outside * exact}, _ONE)
    roots: list[int] = []
    for divisor in range(2, LARGEST_TRIAL_DIVISOR + 1):
        while rest % (divisor * divisor) == 0:
            rest //= divisor * divisor
            outside *= divisor
        if rest % divisor == 0:
            rest //= divisor
            roots.append(divisor)
    if (exact := math.isqrt(rest)) ** 2 == rest:
        outside *= exact
    elif rest <= LARGEST_TRIAL_DIVISOR**2:
        roots.append(rest)
    else:
        raise _Unknown
    monomial = tuple(sorted((f"√{prime}", 1) for prime in roots))
    return Value(_capped({monomial: outside}), _ONE)

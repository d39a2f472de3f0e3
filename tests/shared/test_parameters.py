import math

import pytest

from components.shared.parameters import ParameterError, ascii_line, at_least, between, choice, dns_name, shown


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        (choice, ("m", "vgg61", ["vgg16", "alexnet"]), "m=vgg61 is not allowed (did you mean vgg16?): use one of"),
        (choice, ("m", "", ["none", "int8"]), "m= is not allowed: use one of none, int8"),
        (between, ("n", 0, 1, 100), "n=0 is not allowed: use a whole number from 1 to 100"),
        (between, ("x", 1.5, 0, 1), "x=1.5 is not allowed: use a number from 0 to 1"),
        (between, ("x", math.nan, 0, 1), "x=nan is not allowed"),
        (between, ("x", math.inf, 0, 1), "x=inf is not allowed"),
        (at_least, ("n", -1, 0), "n=-1 is not allowed: use a whole number from 0"),
        (at_least, ("n", 10**30, 0), "use a whole number from 0 to 9007199254740992"),
        (at_least, ("x", math.inf, 1), "x=inf is not allowed: use a number from 1 to"),
        (at_least, ("x", math.nan, 1), "x=nan is not allowed: use a number from 1"),
        (dns_name, ("s", "Museum_1", 40, "museum"), "use a-z, 0-9 and - between them, at most 40 characters"),
        (dns_name, ("s", "x" * 41, 40, "museum"), "at most 40"),
        (dns_name, ("s", "museum-", 40, "museum"), "s=museum- is not allowed"),
        (dns_name, ("s", "mus\n", 40, "museum"), r"s='mus\n' is not allowed"),
        (ascii_line, ("contact", "a\r\nX-Evil: 1", "mailto:x"), "use one line of ASCII"),
    ],
)
def test_what_is_not_allowed_is_one_line_that_says_what_is(check, arguments, message):
    with pytest.raises(ParameterError) as caught:
        check(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_allowed():
    choice("m", "int8", ["none", "int8"])
    between("n", 1, 1, 1)
    at_least("n", 2**53, 0)
    dns_name("s", "2024-museum", 40, "museum")
    ascii_line("contact", "mailto:you@museum.org", "")


def test_a_message_does_not_repeat_a_page():
    assert len(shown("x" * 5000)) < 110

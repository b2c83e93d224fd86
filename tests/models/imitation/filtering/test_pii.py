from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.imitation.filtering.pii import find_pii, is_iban, mask, passes_luhn

# Put together here, so that no scanner takes this file for a leak.
KEY = "sk-" + "a1B2c3D4" * 4
PERSONAL_TOKEN = "ghp_" + "Zx9" * 12
CLOUD_KEY = "AKIA" + "ABCD1234EFGH5678"
WEB_TOKEN = ".".join(["eyJhbGciOiJI", "eyJzdWIiOiIx", "SflKxwRJSMeK"])
PRIVATE = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("email", "jane.doe+news@mail.example.co.uk"),
        ("email", "jürgen@büro.de"),
        ("phone", "+49 30 901820"),
        ("phone", "+1-202-555-0143"),
        ("phone", "+442079460958"),
        ("phone", "(555) 123-4567"),
        ("phone", "555-123-4567"),
        ("phone", "1 555.123.4567"),
        ("phone", "020 7946 0958"),
        ("phone", "0171-1234567"),
        ("phone", "01 23 45 67 89"),
        ("iban", "DE89 3704 0044 0532 0130 00"),
        ("iban", "GB82WEST12345698765432"),
        ("iban", "NO9386011117947"),
        ("card", "4111 1111 1111 1111"),
        ("card", "5500-0000-0000-0004"),
        ("card", "378282246310005"),
        ("ip", "203.0.113.7"),
        ("ip", "10.3.4.17"),
        ("ip", "2001:db8::ff00:42:8329"),
        ("ip", "fe80::1"),
        ("secret", KEY),
        ("secret", PERSONAL_TOKEN),
        ("secret", CLOUD_KEY),
        ("secret", WEB_TOKEN),
        ("secret", PRIVATE),
    ],
)
@pytest.mark.parametrize("frame", ["{}", "Write to {}, please.", "({})", "x:\n{}\ny"])
def test_personal_data_is_found_with_its_exact_bounds(kind: str, value: str, frame: str) -> None:
    masked, kinds = mask(frame.format(value))
    assert (masked, kinds) == (frame.format(f"[{kind.upper()}]"), [kind])


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Phone: 5551234567", "Phone: [PHONE]"),
        ("Call me at 555 123 4567.", "Call me at [PHONE]."),
        ("MY_API_KEY = 'a8f5f167f44f4964e6c998d'", "MY_API_KEY = '[SECRET]'"),
        ('{"password": "hunter22"}', '{"password": "[SECRET]"}'),
        ("Bearer a8f5f167f44f4964e6c998d", "Bearer [SECRET]"),
        ("postgres://admin:s3cr3t@db.example.com/x", "postgres://[SECRET]@db.example.com/x"),
        ("IBAN DE89370400440532013000 and a@b.de", "IBAN [IBAN] and [EMAIL]"),
        ("ping 8.8.8.8:53, 8.8.4.4/32.", "ping [IP]:53, [IP]/32."),
    ],
)
def test_the_words_around_tell_what_a_value_is(text: str, masked: str) -> None:
    assert mask(text)[0] == masked


@pytest.mark.parametrize(
    "text",
    [
        "On 2023-01-15 at 10:30:45, and 07-04-2023 or 01/02/2023 10:30.",
        "It costs 1,234,567.89 or 10.000.000 in 1990-2000.",
        "Order 1234567890 has 3.14159265358979 in it; id 4111111111111112.",
        "The milliseconds are 1700000000000 now.",
        "Upgrade from v1.2.3.4 to version 1.2.3.5; see section 4.3.2.1 of lib-1.2.3.4.jar.",
        "pip install tool==1.2.3.4",
        "Use 127.0.0.1, 0.0.0.0, ::1 or the mask 255.255.255.0; 300.1.1.1 is none.",
        "std::string s = abc::def(a, b); x[1::2]",
        "@decorator, user@host, np.dot(a@b.T) and git@github.com:org/repo.git",
        "DE89 3704 0044 0532 0130 01 has a wrong checksum, as has XX89 3704 0044 0532 0130 00.",
        "Set api_key = 'your-api-key-1234567' or token: <token>; password = getpass()",
        "The token count is 4096 and max_tokens=12345678901234567890.",
        "API_KEY = os.environ.get('SERVICE_API_KEY_2024')",
        "ISBN 978-3-16-148410-0, part 0001-0002.",
        "sk-learn and task-specific-models-of-the-year-2023 are words.",
        "Dial 911 or call 2023 things; 0 1 2 3 4 5 6 7 8 9.",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert mask(text) == (text, [])


@given(st.text(alphabet="a1.@:+-/ []()DE89\n", max_size=60))
@settings(deadline=None)
def test_findings_are_in_order_and_apart_and_the_rest_stays(text: str) -> None:
    findings = find_pii(text)
    position, rest = 0, []
    for finding in findings:
        assert position <= finding.start < finding.end <= len(text)
        rest.append(text[position : finding.start])
        position = finding.end
    rest.append(text[position:])
    masked, kinds = mask(text)
    expected = rest[0]
    for kind, part in zip(kinds, rest[1:], strict=True):
        expected += f"[{kind.upper()}]{part}"
    assert masked == expected


@given(st.from_regex(r"4[0-9]{14}", fullmatch=True), st.integers(0, 14), st.integers(1, 9))
@settings(deadline=None)
def test_one_wrong_digit_fails_the_check(body: str, place: int, shift: int) -> None:
    digits = next(body + check for check in "0123456789" if passes_luhn(body + check))
    wrong = str((int(digits[place]) + shift) % 10)
    assert not passes_luhn(digits[:place] + wrong + digits[place + 1 :])
    assert [finding.kind for finding in find_pii(digits)] == ["card"]


def test_an_iban_has_its_countrys_length() -> None:
    assert is_iban("GB82 WEST 1234 5698 7654 32")
    assert not is_iban("GB82 WEST 1234 5698 7654 3")
    assert not is_iban("")


def test_long_text_without_any_takes_linear_time() -> None:
    text = "a" * 100_000 + " " + "1 " * 50_000 + "a.b-" * 30_000 + "1:" * 20_000
    assert find_pii(text) == []

"""Words that count, months, and units with the dimension that they measure."""

from __future__ import annotations

SMALL = {
    word: value
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen".split()
    )
} | {
    word: (value + 2) * 10
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())
}
_GERMAN = "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split()
OTHERS = {word: value for value, word in enumerate(_GERMAN)} | {
    "once": 1,
    "single": 1,
    "twice": 2,
    "both": 2,
    "thrice": 3,
    "dozen": 12,
    "half": 0.5,
    "first": 1,
    "second": 2,
    "third": 3,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
}
# These words seldom count anything, so that a span need not repeat them.
WEAK = frozenset("one once single both half first second eins twice".split())
SCALES = {"hundred": 100, "thousand": 1e3, "million": 1e6, "billion": 1e9, "k": 1e3, "bn": 1e9}
MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january januar janvier enero jan",
            "february februar février febrero feb",
            "march märz mars marzo mar",
            "april avril abril apr",
            "may mai mayo",
            "june juni juin junio jun",
            "july juli juillet julio jul",
            "august août agosto aug",
            "september septembre septiembre sep sept",
            "october oktober octobre octubre oct",
            "november novembre noviembre nov",
            "december dezember décembre diciembre dec",
        ),
        1,
    )
    for name in names.split()
}
# Unit: the dimension it measures and its size there.
_SIZES = {
    "s": "second 1 seconds 1 sec 1 secs 1 minute 60 minutes 60 min 60 mins 60 hour 3600 hours 3600 "
    "hr 3600 hrs 3600 h 3600 day 86400 days 86400 week 604800 weeks 604800 night 86400 nights "
    "86400 stunden 3600 tage 86400 tagen 86400 wochen 604800 minuten 60 fortnight 1209600",
    "month": "month 1 months 1 quarter 3 quarters 3 year 12 years 12 jahr 12 jahre 12 jahren 12 "
    "monate 1 monaten 1 decade 120 decades 120",
    "%": "% 1 percent 1 per_cent 1 prozent 1 pc 1",
    "EUR": "€ 1 eur 1 euro 1 euros 1",
    "USD": "$ 1 usd 1 dollar 1 dollars 1",
    "GBP": "£ 1 gbp 1 pound 1 pounds 1",
    "CHF": "chf 1 franc 1 francs 1",
    "JPY": "¥ 1 jpy 1 yen 1",
    "m": "mm 0.001 cm 0.01 m 1 metre 1 metres 1 meter 1 meters 1 km 1000 kilometre 1000 "
    "kilometres 1000 kilometer 1000 kilometers 1000",
    "g": "mg 0.001 milligram 0.001 milligrams 0.001 g 1 gram 1 grams 1 kg 1000 kilo 1000 "
    "kilos 1000 kilogram 1000 kilograms 1000",
    "l": "ml 0.001 cl 0.01 l 1 litre 1 litres 1 liter 1 liters 1 l/h 1",
    "B": "kb 1e3 mb 1e6 gb 1e9 tb 1e12 kilobytes 1e3 megabytes 1e6 gigabytes 1e9 terabytes 1e12",
    "W": "w 1 watt 1 watts 1 kw 1e3 kilowatts 1e3 mw 1e6 megawatt 1e6 megawatts 1e6",
    "V": "v 1 volt 1 volts 1",
    "°C": "°c 1 degree 1 degrees 1 celsius 1 °f 1 ° 1",
}


def _read_sizes() -> dict[str, tuple[str, float]]:
    units: dict[str, tuple[str, float]] = {}
    for dimension, sizes in _SIZES.items():
        names = sizes.split()
        for name, size in zip(names[::2], names[1::2], strict=True):
            units[name.replace("_", " ")] = (dimension, float(size))
    return units


UNITS = _read_sizes()

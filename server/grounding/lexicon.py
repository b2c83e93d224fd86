"""English words that say the same, the opposite, or no: what a checker without a model knows.

Small on purpose: words of handbooks, rules and manuals. A text in another language meets none of
them and is compared by its own words and numbers.
"""

from __future__ import annotations

from models.text.words import stem

_SAME = """
employee staff worker colleague teammate personnel member
require need necessary mandatory compulsory obligatory obliged must
allow permit may authorise authorize entitled
forbid prohibit ban disallow
buy purchase acquire
begin start commence open launch
end finish conclude close stop terminate expire shut
give hand provide supply grant deliver
get receive obtain collect
tell inform notify report announce notice contact call
send forward mail email submit
use operate employ utilise utilize
keep store retain hold
holiday vacation leave
pay reimburse reimbursed refund cost price fee charge bear borne paid costs
return back repay
meet gather convene tag
book reserve reserved booking
choose select pick
check inspect verify review examine test
fix repair correct
make create build built produce construct
show display present
change modify alter switch
big large great
small little
fast quick rapid
immediately once instantly straightaway directly
doctor physician gp
ill sick illness sickness disease
phone telephone call
photo picture image
car vehicle
bicycle bike
home house
abroad country foreign overseas
remote remotely home telework
responsible liable accountable
agree consent agreement approve approval approved
lend lent borrow borrowed loan
disable off
increase raise rise raised grow
decrease reduce lower shrink drop lose lost fall cut
also too
about approximately roughly around
yearly annual annually year
monthly month
weekly week
daily day
nightly night
hourly hour
quarterly quarter
everyone everybody anyone anybody all each every person people
whole entire total full fully complete completely
run last
split divide
located stand lie situated rest
lead led head chair run
weigh weight
length long
age old
deep depth
high height tall
wide width
write written writing
document file paper
rule policy regulation
part share portion
error fault bug failure
delete remove erase
enter access entry
leave exit
same equal identical
first initial
free gratis
power electricity energy
supply feed fed provide
customer client
site location place
company firm business organisation organization employer
manager supervisor boss
contract agreement
firm company
child children kid
parent parents mother father
birth born
adopt adoptive adoption
sign signature signed
earlier sooner
wage salary pay
maximum limit cap most
minimum least
compensate reimburse
decline refuse reject turn
sail leave depart
support supported
maintain maintenance upkeep
rinse clean wash
sell sold sale
warranty guarantee
cover include contain
house building
lift elevator
flat apartment
lorry truck
film movie
rubbish waste trash garbage
shop store
term semester
exam examination test
thesis dissertation
pupil student
teacher lecturer
lawyer attorney solicitor
rent lease
landlord owner lessor
tenant renter lessee
medicine drug medication
dose dosage
"""
_OPPOSITE = """
include|exclude
accept|reject refuse decline
increase raise gain gained grow rise|decrease reduce lose lost shrink fall lower
open|closed close shut
before|after
above over|below under
more greater longer higher larger|less fewer shorter lower smaller
first|last
early earlier|late later
minimum least|maximum most
morning|evening afternoon
internal|external
enable enabled on|disable disabled
lock|unlock
public|private secret
paid|unpaid
win|lose
import|export
hot|cold
left|right
optional voluntary|mandatory compulsory obligatory required
with|without
if provided|unless
inside indoors|outside outdoors
always|never seldom sometimes only
all every everyone|none nobody
permanent|temporary
full-time|part-time
buyer|seller
lender|borrower
landlord|tenant
employer|employee
import|export
upload|download
north|south
east|west
northern|southern
eastern|western
oldest|youngest newest latest
largest biggest|smallest
highest|lowest
longest|shortest
safe|unsafe dangerous
legal|illegal
dead|alive
male|female
"""
NEGATORS = frozenset(
    "no not never none nobody nothing neither nor without cannot cant dont doesnt didnt isnt arent "
    "wasnt werent wont shouldnt mustnt couldnt wouldnt neednt havent hasnt aint "
    "nicht kein keine keinen keiner keinem nie niemals ohne pas jamais sans nunca sin".split()
)
# Words that deny something without a negator.
DENIALS = frozenset(
    stem(word)
    for word in "forbid forbidden prohibit prohibited ban banned disallow drop drops dropped "
    "remove removed stop "
    "stopped cease ceased fail failed refuse refused decline declined reject deny "
    "denied lack lacks lacking avoid exclude excluded exempt disable disabled unable impossible "
    "unless except optional voluntary closed unlimited unpaid unsafe illegal".split()
)
OBLIGATIONS = frozenset(
    stem(word)
    for word in "must shall need needs needed require requires required mandatory compulsory "
    "obligatory obliged necessary".split()
)
PERMISSIONS = frozenset(
    stem(word)
    for word in "may allow allowed allows permit permitted permits optional voluntary".split()
)
PROHIBITIONS = frozenset(
    stem(word)
    for word in "forbid forbidden prohibit prohibited ban banned disallow disallowed".split()
)
ONLY = frozenset("only solely exclusively just alone sole nobody unless restricted limited".split())


def _group(lines: str) -> dict[str, frozenset[int]]:
    """Stem to the numbers of the groups that it belongs to."""
    found: dict[str, set[int]] = {}
    for number, line in enumerate(lines.strip().splitlines()):
        for word in line.split():
            found.setdefault(stem(word), set()).add(number)
    return {word: frozenset(numbers) for word, numbers in found.items()}


def _oppose(lines: str) -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
    pairs = []
    for line in lines.strip().splitlines():
        one, other = (frozenset(map(stem, side.split())) for side in line.split("|"))
        pairs += [(one, other), (other, one)]
    return tuple(pairs)


SYNONYMS = _group(_SAME)
OPPOSITES = _oppose(_OPPOSITE)
OPPOSED = frozenset(word for one, other in OPPOSITES for word in one | other)

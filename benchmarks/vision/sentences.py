"""The texts, tables and listings of the documents that reading is measured on."""

from __future__ import annotations

from collections.abc import Sequence

PARAGRAPHS: Sequence[str] = (
    "In the past year the harbour handled 14,382 ships, which is 6.4 % more than the year before. Most of them"
    " carried grain, timber and machine parts; fewer than one in ten was empty when it arrived. The office keeps a"
    " record of every arrival, with its draught, its cargo and the berth that it was given, and publishes the sums"
    " each quarter.",
    "Waiting grew all the same. A ship that came at night waited 3 hours and 25 minutes on average, because the"
    " lock is opened by hand after 22:00. We asked the captains what they would change first: 71 named the lights,"
    " 48 named the radio, and 12 named the price of water. None of them mentioned the depth of the basin, which"
    " surprised us.",
    "The new crane (type K-250) was delivered in May and has been working since August. It lifts 250 tonnes at a"
    " reach of 18 metres, twice as much as the old one. Its operator sits 31 metres above the quay and sees the"
    " whole deck; earlier, two men with flags had to guide every load. The cost was 4.7 million, a little below"
    " the estimate.",
    "Three accidents were reported, none of them serious. A rope broke in January, a forklift slid on ice in"
    " February, and in July a container was set down beside its mark. After each, the crew wrote down what had"
    " happened, what could have happened, and what should be done about it. Their notes are kept in the office at"
    " the north gate.",
    "Two things are planned for the coming years. First, the east basin will be dredged to 9.5 metres, so that"
    " larger ships can enter at low tide. Second, the lock will be opened by a motor, day and night, and a signal"
    " will tell the pilot when it is free. Both together cost about 12 million, of which the region pays a half.",
    "Opinions differ on the railway. Some want a second track, since trains stand still for up to 40 minutes"
    " while wagons are shunted; others would rather see the money spent on the road. A study will compare both by"
    " October. It looks at noise, at safety, and at how many jobs depend on either, and it will be discussed in"
    " public.",
    "The scheduler assigns berths to ships. It reads a list of arrivals, sorts them by draught and by time, and"
    " writes a plan that a person can change by hand. Call it once an hour; it takes less than a second for a day"
    " with 200 ships. The function below shows how a plan is made, and what is raised when no berth is deep"
    " enough.",
    "Options are given in a file or on the command line, where the latter win. Names are written with hyphens on"
    " the command line and with underscores in the file. A value that is out of range is refused with a message"
    " that says what was expected; nothing is written in that case, and the old plan stays valid until the next"
    " call.",
)
PARAGRAPHS_DE: Sequence[str] = (
    "Im vergangenen Jahr wurden 14.382 Schiffe abgefertigt, das sind 6,4 % mehr als im Vorjahr. Die meisten"
    " führten Getreide, Holz und Maschinenteile; nur wenige kamen leer. Über jede Ankunft wird Buch geführt, mit"
    " Tiefgang, Ladung und Liegeplatz, und die Summen werden jedes Vierteljahr veröffentlicht.",
    "Größere Unfälle gab es nicht. Im Januar riss ein Tau, im Februar rutschte ein Stapler auf dem Eis, und im"
    " Juli wurde ein Behälter neben seiner Markierung abgesetzt. Was daraus zu lernen war, schrieb die Mannschaft"
    " jedes Mal auf.",
)
TABLES: Sequence[Sequence[Sequence[str]]] = (
    (
        ("Goods", "Q1", "Q2", "Q3", "Q4"),
        ("Grain", "312.5", "287.0", "401.2", "398.7"),
        ("Timber", "98.1", "120.4", "133.9", "101.0"),
        ("Machine parts", "45.0", "47.3", "44.8", "52.6"),
        ("Other", "12.9", "15.2", "9.4", "17.7"),
    ),
    (
        ("Berth", "Depth (m)", "Length (m)", "Crane"),
        ("North 1", "7.2", "140", "none"),
        ("North 2", "8.0", "165", "K-100"),
        ("East 1", "9.5", "210", "K-250"),
        ("East 2", "9.5", "190", "none"),
        ("South", "5.4", "90", "mobile"),
    ),
    (
        ("Hour", "Ships", "Wait"),
        ("00-06", "412", "3:25"),
        ("06-12", "1,630", "0:48"),
        ("12-18", "1,954", "1:02"),
        ("18-24", "877", "2:10"),
    ),
    (
        ("Option", "Default", "Meaning"),
        ("--depth-margin", "0.5", "metres below the keel"),
        ("--night", "off", "plan after 22:00"),
        ("--max-wait", "180", "minutes at most"),
        ("--output", "plan.json", "where the plan goes"),
    ),
)
CODE = """def assign(ships, berths, margin=0.5):
    plan = {}
    for ship in sorted(ships, key=lambda s: -s.draught):
        fitting = [b for b in berths if b.depth >= ship.draught + margin]
        if not fitting:
            raise NoBerth(f"{ship.name}: no berth is deep enough")
        berth = min(fitting, key=lambda b: b.free_at)
        plan[ship.name] = (berth.name, max(ship.eta, berth.free_at))
        berth.free_at = plan[ship.name][1] + ship.hours
    return plan"""
GO_CODE = """type Berth struct {
    Name  string
    Depth float64
}

func (b Berth) Fits(draught float64) bool {
    return b.Depth >= draught+0.5
}"""

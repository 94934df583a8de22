"""The parts of the page that are the same after every run."""

BEGINNING = """\
# Benchmarks

Made by `make bench` on {date}; what was measured is in [{json}]({json}).
One machine, everything on it side by side and in turns: figures are good for comparing with each
other, and not with those of another machine."""

METHOD = """\
## How it is measured

- Everybody gets the same events: about 220 bytes of JSON each, with random UUIDs unless said
  otherwise. Bodies are made beforehand, and no event is sent twice unless that is the point.
- {effort.rounds} rounds, each contestant once a round, on an empty store: up to
  {effort.events:,} events ({effort.singles:,} where each is a request of its own) or
  {effort.seconds:g} seconds, whichever comes first. A rate is the median of the rounds; a ratio
  is the median of the ratios within rounds.
- After each round the number of events that are stored is read back. A round in which one is
  missing, or any request is refused or lost, fails and is no measurement.
- Requests are sent by `wrk` with one thread where it is installed, otherwise by a publisher of
  ours.{publisher}
- Where 20 % were sent before, each of those is one of the last 5,000 events, taken at random.
- Bare SQLite is handed rows that are tuples already; making them is not counted.
- Processor time and memory are those of the server and of all processes that it started; memory
  that these share is counted once.
- Peers are set up to promise as much as they can, and otherwise left as they come."""

LATENCY = """\
Requests are sent on a schedule, and latency is counted from the moment when each was due, whatever
became of the earlier ones. The publisher's own lateness is in it, and stands beside."""

GROWTH = """\
The first step takes but a second: it is the median of three, each with a store of its own."""

CLOUDEVENTS = """\
100 events a request on 16 connections, as in the growth of plain events; what is written counts the
log, and what is merged in the background."""

FILLED = """\
Half of them are CloudEvents, stored first. The service is started once, and its start is not
counted; then it is read, and published to in turns, so that its store grows on. Processor time is
what the process uses until it is idle again. Bare SQLite has a store of its own of the same size,
is sent 20 % duplicates, and is timed alone. Each read is the median of three in a row; the last
events are 1.6 % of all, and a page has 100 events where one is read and 1,000 where all are."""

MEMORY_FILLED = """\
Memory was filled beforehand (`--fill-memory`), as it is on a machine that has run for days. A
virtual one gets memory that it has not used yet from its host, page by page, and whose files grow
into that is slowed down, whoever it is."""

AGAIN = """\
## Run it again

```sh
apt-get install wrk   # as root; without it a slower publisher of ours is used
make bench            # everything, and this page: about {minutes} minutes
make bench BENCH='--quick'   # the most important of it, without this page: 3 minutes
make bench BENCH='--only sqlite,ours-100 --rounds 5'
make bench BENCH='--only sqlite --filled 1000000'
make bench BENCH='--only ours-100 --growth 10000000 --fill-memory'
```

The peers are installed into `build/bench` by the run itself; one that cannot be had is skipped, and
the table says why. `.venv/bin/python -m loadgen.bench --help` lists what else can be asked for."""

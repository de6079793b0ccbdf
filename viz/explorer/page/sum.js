// The ledger: W's gradient growing use by use.

/** The cell (row, column) of A under the cut that is chosen: [norm, entry]. */
function cell(p, row, column) {
  const {A, entries, uses} = parameters[p],
    whole = [A[row][column] ?? 0, entries[row][column] ?? 0];
  if (!at.cut) return whole;
  const cells = at.cut.parameters[p][3];
  if (cells) return at.cut.cells[p].get(`${row},${column}`) ?? whole;
  const s = at.cut.after,
    same = place => String(place ?? "") === at.cut.sequence;
  const t = run.losses[row][2],
    k = uses[column].k;
  return same(sequenceOf(run.losses[row][0])) &&
    same(sequenceOf(uses[column].edges[0][0])) &&
    k !== null &&
    t !== null &&
    t > s !== k > s
    ? [0, 0]
    : whole;
}
const sequenceOf = id => nodes[id].scope.match(/(?:^|, )sequence=([^,]*)/)?.[1];

/** The uses of the chosen parameter in the order in which the sweep comes to them, with what each adds to the entry. */
function lines() {
  const p = chosen(),
    explicitOn = $("explicit").checked,
    implicitOn = $("implicit").checked;
  let sum = 0;
  return p.uses
    .map((one, column) => {
      const all = at.cut ? run.losses.reduce((found, _, row) => found + cell(at.p, row, column)[1], 0) : one.entry;
      return {
        ...one,
        column,
        own: explicitOn ? one.explicit : 0,
        behind: implicitOn ? clean(all - one.explicit, all) : 0,
      };
    })
    .sort((a, b) => a.at - b.at)
    .map(line => {
      const before = sum;
      sum += line.own + line.behind;
      return {...line, before, after: sum};
    });
}
const clean = (x, scale) => (Math.abs(x) < 1e-6 * Math.abs(scale) ? 0 : x); // what rounding leaves of nothing

function fillLedger() {
  const p = chosen(),
    all = lines(),
    name = `${p.label}.grad${entryName(p)}`;
  const ends = [0, ...all.flatMap(({before, own, after}) => [before, before + own, after])].filter(Number.isFinite);
  const largest = Math.max(...ends.map(Math.abs));
  at.decimals = Math.max(0, (largest < 0.1 ? 2 : 3) - (largest ? Math.floor(Math.log10(largest)) : 0));
  const low = Math.min(...ends),
    span = Math.max(...ends) - low || 1,
    percent = x => (100 * (x - low)) / span;
  const bar = (from, to, kind) =>
    to === from
      ? []
      : [
          make("i", {
            class: kind,
            style: `left:${Math.min(percent(from), percent(to)).toFixed(2)}%;` +
              `width:${Math.abs(percent(to) - percent(from)).toFixed(2)}%`,
          }),
        ];
  $("sum-title").textContent = `${p.label}'s gradient is a sum over its uses`;
  $("ledger").tHead.replaceChildren(
    make(
      "tr",
      {},
      ...[
        ["use", ""],
        ["", "fall"],
        ["+=", ""],
        ["explicit ∂⁺", "explicit"],
        ["implicit", "implicit"],
      ].map(([text, kind]) => make("th", {class: kind, scope: "col"}, text)),
    ),
  );
  $("ledger").tBodies[0].replaceChildren(
    ...all.map((line, place) =>
      Object.assign(
        make(
          "tr",
          {tabindex: place ? -1 : 0},
          make("td", {}, line.k === null ? "outside" : use(p, line.k)),
          make(
            "td",
            {class: "fall"},
            make("i", {class: "zero", style: `left:${percent(0).toFixed(2)}%`}),
            ...bar(line.before, line.before + line.own, "explicit"),
            ...bar(line.before + line.own, line.after, "implicit"),
          ),
          make("td", {}),
          make("td", {class: "explicit"}),
          make("td", {class: "implicit"}),
        ),
        {line},
      ),
    ),
  );
  paintLedger();
}

let ledgerAt = null;
function paintLedger() {
  const tick = known(),
    rows = [...$("ledger").tBodies[0].rows],
    p = chosen();
  let reached = null,
    last = null;
  for (const row of rows) {
    const there = row.line.at <= tick,
      {cells, line} = row;
    if (row.classList.contains("waiting") === there || !row.painted) {
      row.painted = true;
      row.classList.toggle("waiting", !there);
      const texts = there ? [line.own + line.behind, line.own, line.behind].map(aligned) : ["–", "–", "–"];
      texts.forEach((text, j) => write(cells[j + 2], text));
    }
    const now = at.tick > N && line.at === at.tick;
    row.classList.toggle("lit", now);
    if (there && (!reached || line.at >= reached.at)) [reached, last] = [line, row];
  }
  if (reached !== ledgerAt) $("ledger").parentElement.scrollTop = last ? last.offsetTop - 60 : 0;
  ledgerAt = reached;
  const count = rows.filter(row => row.line.at <= tick).length,
    done = allAdded(p, tick),
    name = `${p.label}.grad${entryName(p)}`;
  const parts = [$("explicit").checked, $("implicit").checked];
  const which =
    parts[0] && parts[1]
      ? ""
      : parts[0]
        ? ", explicit part alone"
        : parts[1]
          ? ", implicit part alone"
          : ", nothing of it";
  const summands = rows.slice(0, count).map(({line}, j) => signed(line.own + line.behind, j));
  const shown = summands.length > 6 ? [...summands.slice(0, 3), "…", ...summands.slice(-2)] : summands;
  $("total").textContent =
    tick < N + 1 || !count
      ? `${name} = – before the backward pass comes to ${p.label}`
      : `${name} = ${count > 1 ? `${shown.join(" ")} = ` : ""}${signed(reached.after, 0)}${which}` +
        (count < rows.length ? ` so far, ${count} of ${rows.length} uses` : "");
  const foot = make(
    "tr",
    {},
    ...[
      "all uses",
      "",
      aligned(rows.at(-1).line.after),
      aligned(sumOf(rows, "own")),
      aligned(sumOf(rows, "behind")),
    ].map((text, j) =>
      make("td", {class: ["", "fall", "", "explicit", "implicit"][j]}, done || j < 2 ? text : "–"),
    ),
  );
  $("ledger").tFoot.replaceChildren(foot);
  $("parts").textContent = done ? wholeGradient(p) : "";
}
const signed = (x, place) =>
  place ? `${x < 0 ? "− " : "+ "}${aligned(x).replace(/^[+−]/, "")}` : aligned(x).replace("+", "");
const sumOf = (rows, part) => rows.reduce((found, {line}) => found + line[part], 0);

function wholeGradient(p) {
  const [, , cutNorm] = at.cut?.parameters[at.p] ?? [],
    terms = p.uses.reduce((found, {norm}) => found + norm, 0);
  const whole =
    `The whole of ${p.label}.grad (${array(p.total).shape.join(" × ") || "one number"}): ` +
    `‖total‖ ${size(p.norms[0])}, ` +
    `‖explicit‖ ${size(p.norms[1])}, ‖implicit‖ ${size(p.norms[2])}. ` +
    `Entries add up; norms do not: those of the ${p.uses.length} terms of this table, one for each use` +
    `${run.losses.length > 1 ? ", all losses together" : ""}, sum to ${size(terms)}.`;
  return at.cut
    ? `With ${at.cut.name}: ‖${p.label}.grad‖ = ${size(cutNorm)}, ` +
        `${p.label}.grad${entryName(p)} = ${number(at.cut.parameters[at.p][1])}; ` +
        `whole: ‖${p.label}.grad‖ = ${size(p.norms[0])}, ${number(p.sums[0])}.`
    : whole;
}

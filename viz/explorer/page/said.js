// What is said of a tick, a node and an edge, and what the reader is asked.

/** Numbers that are added up, with the same decimals, as many as the largest needs; if nothing is left, the number. */
const aligned = x =>
  x === 0 || !Number.isFinite(x) || Math.abs(x) < 0.5 * 10 ** -at.decimals || at.decimals > 6
    ? number(x)
    : (x < 0 ? "−" : "+") + Math.abs(x).toFixed(at.decimals);
const badge = kind =>
  make(
    "span",
    {},
    ...(kind === "both"
      ? [badge("explicit"), " and ", badge("implicit")]
      : [make("b", {class: kind}, kind === "explicit" ? "explicit ∂⁺" : "implicit")]),
  );

function sayTick() {
  const said = $("said"),
    tick = at.tick,
    veiled = hidden();
  if (!tick)
    return said.replaceChildren(
      make(
        "p",
        {},
        `Nothing has run yet. ${N} operations forward, then ${backward.length} ` +
          "backward, in reverse order. Press → or move the slider.",
      ),
    );
  const seen = place => (veiled ? "?" : full(place));
  if (tick <= N) {
    const x = ran[tick - 1];
    return said.replaceChildren(
      make("p", {class: "quiet"}, `forward ${tick} of ${N}${whereOf(x) && `, ${whereOf(x)}`}`),
      make("p", {class: "big"}, x.equation),
      ...[...new Set(x.inputs)].map(y =>
        make("div", {class: "edge"}, `reads ${nodes[y].label} = ${full(nodes[y].value)}`),
      ),
      make("p", {class: "add"}, `${x.label} = ${seen(x.value)}`),
    );
  }
  const {node, incoming, edges} = backward[tick - N - 1];
  said.replaceChildren(
    make("p", {class: "quiet"}, `backward ${tick - N} of ${backward.length}${whereOf(node) && `, ${whereOf(node)}`}`),
    make("p", {class: "big"}, `back through ${node.equation}`),
    make("p", {}, `comes in: g = ${gradientName(node)} = ${full(incoming)}`),
    ...[...edges]
      .sort((a, b) => (b.x.id === chosen().node) - (a.x.id === chosen().node))
      .map(edge => sayEdge(node, edge, veiled)),
    ...(at.cut
      ? [make("p", {class: "quiet"}, "These are the numbers of the whole run; the sum and the boxes show the cut one.")]
      : []),
  );
}

function sayEdge(node, edge, veiled) {
  const {x, i, kind, contribution, before, rule, product, jacobian, entry} = edge;
  const total = gradientName(x),
    place = parameters.find(p => p.node === x.id);
  const seen = text => (veiled ? "?" : text);
  const sum = entry
    ? [`${x.label}.grad${entryName(place)}`, number(entry[1]), number(entry[0]), number(entry[2])]
    : [total, before === undefined ? "–" : full(before), full(contribution), full(edge.after ?? contribution)];
  const only = !entry && x.events.length === 1;
  const small = jacobian !== null && jacobian !== undefined ? ` = ${diagonal(jacobian)}` : "";
  const made = make(
    "div",
    {class: `edge ${kind}${place === chosen() ? " chosen" : ""}`},
    make(
      "div",
      {class: "add"},
      only ? `${total} = ${seen(sum[2])}` : `${sum[0]}: ${sum[1]} += ${seen(sum[2])} → ${seen(sum[3])}`,
    ),
    make("div", {}, badge(kind), node.carried.includes(i) ? ", along the dashed line to another step" : ""),
    make("div", {class: "quiet"}, `∂${node.label}/∂${x.label}: ${rule}${small}` + (product ? `; so ${product}` : "")),
    make(
      "div",
      {class: "quiet"},
      `contribution ‖·‖ ${seen(size(array(contribution).norm))}` +
        (entry && array(contribution).values && !veiled ? ` = ${full(contribution)}` : ""),
    ),
  );
  if (entry && !veiled && array(contribution).norm === 0) made.append(make("div", {}, whyZero(node, i)));
  return made;
}

/** A Jacobian as its diagonal, where that is all of it. */
function diagonal(place) {
  const {
    shape: [rows, columns],
    values,
  } = array(place);
  const off = values.some((x, j) => x !== 0 && Math.floor(j / columns) !== j % columns);
  if (rows !== columns || off || rows === 1) return full(place);
  return `diag[${values
    .filter((_, j) => j % (columns + 1) === 0)
    .map(x => number(x))
    .join(" ")}]`;
}

function whyZero(node, i) {
  const other = node.op === "matmul" ? nodes[node.inputs[1 - i]] : null,
    name = nodes[node.inputs[i]].label;
  const incoming = backward[tickOf.get(node.id) - N - 1]?.incoming;
  if (incoming !== undefined && array(incoming).norm === 0)
    return `Exactly 0: what comes back to ${node.label} is 0 itself.`;
  return other && array(other.value).norm === 0
    ? `Exactly 0: ${name} multiplies ${other.label} here, and ${other.label} = 0, ` +
        `so however ${name} changes, nothing changes here.`
    : "Exactly 0: nothing comes back here, or it has vanished below what a float can hold.";
}

function inspect(x) {
  const tick = known(),
    g = gradientAt(x, tick),
    rows = [
      ["value", x.ran <= tick ? full(x.value) : "not computed yet"],
      [
        "gradient",
        g === undefined
          ? x.requires
            ? "– (the backward pass has not come here yet)"
            : "none: a constant"
          : `${gradientName(x)} = ${full(g)}`,
      ],
      ["shape", array(x.value).shape.join(" × ") || "one number"],
      ["equation", x.equation || "a leaf: given, not computed"],
      ["where", whereOf(x) || "outside the steps"],
    ];
  if (x.source) rows.push(["made in", x.source]);
  const list = make("dl", {}, ...rows.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
  const edges = x.inputs.map((_, i) => flows.get(`${x.id}_${i}`)).filter(Boolean);
  $("inspected").replaceChildren(
    make("p", {class: "big"}, x.label, " ", make("span", {class: "quiet"}, x.remark)),
    list,
    ...edges.map(edge => (edge.at <= tick ? sayEdge(x, edge, false) : sayRule(x, edge))),
  );
}
const sayRule = (x, {x: y, rule, kind}) => make("div", {class: `edge ${kind}`}, `∂${x.label}/∂${y.label}: ${rule}`);

function inspectEdge(id) {
  const [, node, i] = id.match(/^e(\d+)_(\d+)$/) ?? [];
  if (node === undefined) return;
  const x = nodes[node],
    edge = flows.get(`${node}_${i}`),
    y = nodes[x.inputs[i]];
  $("inspected").replaceChildren(
    make("p", {class: "big"}, `${y.label} → ${x.label}`),
    !edge
      ? make("p", {}, "no gradient flows back here")
      : edge.at <= known()
        ? sayEdge(x, edge, false)
        : sayRule(x, edge),
  );
}

// --------------------------------------------------------------------------------------------------------- prediction
/** What the reader is asked at a tick: [question, answer]; null where there is nothing to ask. */
function questionOf(tick) {
  if (tick <= N) {
    const x = ran[tick - 1],
      {values, norm} = array(x.value);
    return values
      ? [`${x.label}${values.length > 1 ? ", its first number" : ""} =`, values[0]]
      : [`‖${x.label}‖ =`, norm];
  }
  const {edges} = backward[tick - N - 1],
    edge = edges.find(e => e.x.id === chosen().node) ?? edges[0];
  if (!edge) return null;
  if (edge.entry)
    return [`${edge.x.label}.grad${entryName(parameters.find(p => p.node === edge.x.id))} +=`, edge.entry[0]];
  const {values, norm} = array(edge.contribution);
  return values
    ? [`${gradientName(edge.x)}${values.length > 1 ? ", its first number" : ""} +=`, values[0]]
    : [`‖ what is added to ${gradientName(edge.x)} ‖ =`, norm];
}
function askAgain() {
  $("guess").hidden = !hidden() && !$("off").textContent;
  if (hidden()) {
    $("question").textContent = `Your guess: ${questionOf(at.tick)[0]}`;
    $("off").textContent = "";
    $("number").value = "";
  }
}
function answer(guess) {
  const [what, right] = questionOf(at.tick),
    off = Math.abs(guess - right);
  at.shown.add(at.tick);
  $("off").textContent =
    guess === null
      ? `It is ${number(right)}.`
      : `It is ${number(right)}; you said ${number(guess)}, off by ${size(off)}` +
        (right ? ` (${size((100 * off) / Math.abs(right))} %).` : ".") +
        (right && guess * right < 0 ? " The sign is the other one." : "");
  $("question").textContent = what;
  update([...touched[at.tick]]);
}

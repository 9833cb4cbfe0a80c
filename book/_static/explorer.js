// The page Explorer: choices, and the curves, maps and numbers that follow them. The numbers come from the tables of the
// studies (pipeline.report.explorer); nothing is computed here but their drawing. Values are in thousandths.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [400, 270, 46, 12, 30, 42];
const RANGES = { utility: [0, 1], harm: [1, 5], harm_rate5: [0, 1] }; // of measures that have ends
const SCALES = { answers: ["harm", "utility"], margins: ["harm_margin", "utility_margin"] };
const WORDS = {
  parallel: "kept",
  orthogonal: "removed",
};
const CONTROLS = [
  // panel, key in the address, label, the arrays whose axis has the choices, the axis, preferred choice, whether a slider
  ["behaviour", "mode", "The subspace is", ["behaviour"], "mode", "orthogonal"],
  ["behaviour", "task", "Update", ["behaviour", "energy"], "task", "contaminated"],
  ["behaviour", "subspace", "Subspace", ["behaviour", "energy"], "subspace", "alignment"],
  ["behaviour", "control", "Vectors taken (control)", ["behaviour", "energy"], "control", "top-k"],
  ["behaviour", "scale", "Harm and utility of", [], "", "answers"],
  ["behaviour", "k", "k / min(m, n)", ["behaviour", "energy"], "fraction", 0.25, true],
  ["energy", "part", "Module type", ["energy"], "module", "all"],
  ["updates", "pair", "Pair of updates", ["updates"], "pair", "useful-harmful"],
  ["updates", "layer", "Layer", ["updates"], "layer", "all"],
  ["updates", "module", "Module type", ["updates"], "module", "all"],
  ["updates", "eta", "Energy fraction η", ["updates"], "eta", 0.5, true],
  ["activations", "model", "Model", ["activations"], "model", "aligned"],
  ["activations", "prompts", "Pair of prompt sets", ["activations"], "pair", "useful-harmful"],
  ["activations", "depth", "Layer", ["activations"], "layer", null, true],
  ["activations", "spread", "Energy fraction η", ["activations"], "eta", 0.5, true],
].map(([panel, key, label, arrays, axis, preferred, slider]) => ({ panel, key, label, arrays, axis, preferred, slider }));

let setup, state = {}, data; // what the page was told, the choices by their keys, the study that is shown

// Elements

function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function draw(name, attributes = {}, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

const panel = (name) => document.querySelector(`[data-explorer="${name}"]`);
const said = (value, digits = 3) => value.toFixed(digits).replace("-", "−");
const word = (value) => WORDS[value] ?? String(value).replace(/^-(?=\d)/, "−");
const layerName = (value) => (value === "-1" ? "none (embeddings, head)" : value);
const labelOf = (measure) => setup.labels[measure] ?? measure;
const lookOf = (name, place) => setup.looks[name] ?? setup.others[place % setup.others.length];

// Numbers

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return JSON.parse(await new Response(stream).text());
}

function load(study) {
  return new Promise((resolve, reject) => {
    if (window.explored?.[study]) return resolve(window.explored[study]);
    const script = make("script", { src: `explorer/${study}.js` });
    script.addEventListener("load", () => resolve(window.explored[study]));
    script.addEventListener("error", reject);
    document.head.append(script);
  });
}

function row(array, at) {
  let index = 0;
  for (const [axis, places] of Object.entries(array?.axes ?? {})) {
    const place = places.indexOf(at[axis]);
    if (place < 0) return null;
    index = index * places.length + place;
  }
  if (!array || array.mean[index] === null) return null;
  const of = (column) => (array[column]?.[index] == null ? null : array[column][index] / 1000);
  const seeds = Array.isArray(array.seeds) ? array.seeds[index] : array.seeds;
  return { mean: of("mean"), low: of("low"), high: of("high"), random: of("random"), seeds };
}

function rows(array, axis, at) {
  const places = array?.axes[axis] ?? [];
  return places.map((x) => ({ x, ...row(array, { ...at, [axis]: x }) })).filter((one) => one.mean !== undefined);
}

function interval(found) {
  if (!found) return "not measured";
  return said(found.mean) + (found.low === null ? "" : ` [${said(found.low)},\u00a0${said(found.high)}]`);
}

function howSure(found) {
  if (!found) return "";
  if (found.low === null) return found.seeds > 1 ? `Mean over ${found.seeds} seeds, without an interval.` : "One seed, which has no interval.";
  return `Mean over ${found.seeds} seeds, with ${Math.round(data.confidence * 100)} % t interval in brackets.`;
}

// Choices

function choices(control) {
  if (control.key === "scale") return Object.keys(SCALES);
  const found = control.arrays.flatMap((name) => data[name]?.axes[control.axis] ?? []);
  const each = [...new Set(found)].filter((choice) => control.key !== "prompts" || hasPrompts(choice));
  return control.slider ? each.sort((a, b) => a - b) : each;
}

function hasPrompts(pair) {
  const { layer, eta } = data.activations.axes;
  const at = { model: state.model, pair };
  return layer.some((one) => eta.some((two) => row(data.activations, { ...at, layer: one, eta: two })));
}

function settle(asked) {
  const moved = [];
  for (const control of CONTROLS) {
    const known = choices(control);
    const wanted = asked[control.key] ?? state[control.key];
    let chosen = known.find((choice) => String(choice) === String(wanted));
    if (chosen === undefined) {
      chosen = known.find((choice) => choice === control.preferred) ?? known[control.slider ? known.length >> 1 : 0];
      if (wanted !== undefined && known.length) moved.push(`${control.label} = ${word(wanted)} is not in this study: shown is ${word(chosen)}`);
    }
    if (chosen !== undefined) state[control.key] = chosen;
  }
  return moved;
}

function controlElement(control) {
  const id = `explorer-${control.key}`;
  const label = make("label", { htmlFor: id, textContent: control.label });
  const input = control.slider ? make("input", { type: "range", id, min: 0, step: 1 }) : make("select", { id });
  const known = () => choices(control);
  input.addEventListener("input", () => choose({ [control.key]: known()[control.slider ? input.valueAsNumber : input.selectedIndex] }));
  const parts = control.slider ? [label, input, make("output", { htmlFor: id })] : [label, input];
  return make("div", { className: "choice" }, ...parts);
}

function fillControl(control) {
  const input = document.getElementById(`explorer-${control.key}`);
  const known = choices(control);
  const place = known.indexOf(state[control.key]);
  if (control.slider) {
    Object.assign(input, { max: Math.max(0, known.length - 1), value: Math.max(0, place) });
    input.setAttribute("aria-valuetext", word(state[control.key]));
    input.nextElementSibling.textContent = word(state[control.key] ?? "");
  } else {
    const name = control.key === "layer" ? layerName : word;
    input.replaceChildren(...known.map((choice) => make("option", { textContent: name(choice) })));
    input.selectedIndex = place;
  }
}

function choose(changes) {
  const { study, ...asked } = changes;
  if (study && study !== state.study) return show(study, asked, true);
  const moved = settle(asked);
  render(moved);
  history.replaceState(null, "", `#${new URLSearchParams(state)}`);
}

async function show(study, asked, remember, notes = []) {
  const about = document.getElementById("explorer-about");
  try {
    data = await unpack(await load(study));
  } catch {
    about.textContent = `The numbers of this study cannot be read: the file explorer/${study}.js beside this page is missing or not whole, or this browser is older than 2023. Build the report again, or use a newer browser.`;
    return;
  }
  state.study = study;
  document.getElementById("explorer-study").value = study;
  render([...notes, ...settle(asked)]);
  if (remember) history.replaceState(null, "", `#${new URLSearchParams(state)}`);
}

function fromAddress() {
  const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  const { study, panel: seen, ...others } = location.hash.includes("=") ? asked : {};
  const first = Object.keys(setup.studies)[0];
  const known = study === undefined || study in setup.studies;
  const notes = known ? [] : [`This report has no numbers of a study ${study}: shown is ${setup.studies[first]}`];
  show(known && study ? study : first, others, false, notes).then(() => seen in PANELS && goTo(panel(seen)));
}

function goTo(place) {
  (place.closest("section") ?? place).scrollIntoView();
}

// Drawing

function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough * 0.999);
  const found = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9; place++) found.push(place * step);
  return found.map((value) => Number(value.toFixed(6)));
}

function reach(values, fixed) {
  if (fixed) return fixed;
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - room, high + room];
}

const MARKS = {
  o: (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  s: (x, y, r) => `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
  D: (x, y, r) => `M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`,
  "^": (x, y, r) => `M${x} ${y - 1.2 * r}l${1.2 * r} ${2.2 * r}h${-2.4 * r}z`,
  v: (x, y, r) => `M${x} ${y + 1.2 * r}l${1.2 * r} ${-2.2 * r}h${-2.4 * r}z`,
};
const markOf = (mark) => MARKS[mark] ?? MARKS.o;

function axes(svg, spec, x, y) {
  for (const value of ticks(...spec.yRange)) {
    svg.append(draw("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
    svg.append(draw("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, said(value, 2).replace(/\.?0+$/, "") || "0"));
  }
  for (const value of ticks(...spec.xRange)) {
    svg.append(draw("text", { x: x(value), y: HEIGHT - BOTTOM + 17, "text-anchor": "middle" }, word(value)));
  }
  svg.append(draw("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }));
  svg.append(draw("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, spec.xLabel));
  const squeezed = spec.title.length > 48 ? { textLength: WIDTH - 8, lengthAdjust: "spacingAndGlyphs" } : {};
  svg.append(draw("text", { class: "title", x: 4, y: 16, ...squeezed }, spec.title));
}

function line(group, one, x, y) {
  const [colour, mark] = one.look;
  group.style.setProperty("--line", colour);
  group.classList.add("line", ...(one.chosen ? ["chosen"] : []));
  const banded = one.rows.filter((found) => found.low !== null);
  if (banded.length > 1) {
    const edge = [...banded.map((f) => [f.x, f.high]), ...banded.toReversed().map((f) => [f.x, f.low])];
    group.append(draw("polygon", { points: edge.map(([a, b]) => `${x(a)},${y(b)}`).join(" ") }));
  }
  group.append(draw("polyline", { points: one.rows.map((f) => `${x(f.x)},${y(f.mean)}`).join(" ") }));
  for (const found of one.rows) group.append(draw("path", { d: markOf(mark)(x(found.x), y(found.mean), one.chosen ? 4 : 3) }));
}

function chart(spec) {
  const lines = spec.lines.filter((one) => one.rows.length);
  if (!lines.length) return make("p", { className: "note", textContent: `${spec.title}: not measured for this choice.` });
  const drawn = lines.flatMap((one) => one.rows);
  const values = [...drawn.flatMap((f) => (f.low === null ? [f.mean] : [f.mean, f.low, f.high])), ...spec.levels.map((level) => level.value)];
  spec.yRange = reach(values, spec.fixed);
  spec.xRange = spec.xFixed ?? reach(drawn.map((found) => found.x));
  const scale = ([low, high], from, to) => (value) => from + ((value - low) / (high - low)) * (to - from);
  const x = scale(spec.xRange, LEFT, WIDTH - RIGHT);
  const y = scale(spec.yRange, HEIGHT - BOTTOM, TOP);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": spoken(spec, lines) });
  const inside = draw("svg", { x: LEFT - 5, y: TOP - 5, width: WIDTH - LEFT - RIGHT + 10, height: HEIGHT - TOP - BOTTOM + 10 });
  inside.setAttribute("viewBox", `${LEFT - 5} ${TOP - 5} ${WIDTH - LEFT - RIGHT + 10} ${HEIGHT - TOP - BOTTOM + 10}`);
  axes(svg, spec, x, y);
  svg.append(inside);
  if (spec.at !== null) inside.append(draw("line", { class: "at", x1: x(spec.at), x2: x(spec.at), y1: TOP, y2: HEIGHT - BOTTOM }));
  for (const level of spec.levels) {
    inside.append(draw("line", { class: "level", x1: LEFT, x2: WIDTH - RIGHT, y1: y(level.value), y2: y(level.value) }));
    inside.append(draw("text", { class: "level", x: WIDTH - RIGHT - 2, y: y(level.value) - 4, "text-anchor": "end" }, level.name));
  }
  const chance = lines.filter((one) => one.chosen).flatMap((one) => one.rows).filter((found) => found.random !== null);
  if (chance.length) inside.append(draw("polyline", { class: "chance", points: chance.map((f) => `${x(f.x)},${y(f.random)}`).join(" ") }));
  for (const one of [...lines].sort((a, b) => a.chosen - b.chosen)) line(inside.appendChild(draw("g")), one, x, y);
  svg.addEventListener("click", (event) => clicked(svg, event, drawn, x, spec.key));
  return svg;
}

function clicked(svg, event, drawn, x, key) {
  const box = svg.getBoundingClientRect();
  const at = ((event.clientX - box.left) / box.width) * WIDTH;
  const nearest = drawn.reduce((a, b) => (Math.abs(x(b.x) - at) < Math.abs(x(a.x) - at) ? b : a));
  choose({ [key]: nearest.x });
}

function spoken(spec, lines) {
  const ends = lines.map(({ name, rows: [...found] }) => {
    const [first, last] = [found[0], found.at(-1)];
    const start = `${name} ${said(first.mean)} at ${word(first.x)}`;
    return first === last ? start : `${start}, ${said(last.mean)} at ${word(last.x)}`;
  });
  return `${spec.title} over ${spec.xLabel}: ${ends.join("; ")}.`;
}

function legend(lines, dotted) {
  const items = lines.filter((one) => one.rows.length).map((one) => {
    const mark = draw("svg", { viewBox: "0 0 22 12", width: 22, height: 12, "aria-hidden": "true" });
    line(mark.appendChild(draw("g")), { ...one, rows: [] }, Number, Number);
    mark.firstChild.append(draw("polyline", { points: "0,6 22,6" }), draw("path", { d: markOf(one.look[1])(11, 6, 4) }));
    return make("li", one.chosen ? { className: "chosen" } : {}, mark, ` ${one.name}`);
  });
  if (dotted && items.length) {
    const mark = draw("svg", { viewBox: "0 0 22 12", width: 22, height: 12, "aria-hidden": "true" });
    mark.append(draw("polyline", { class: "chance", points: "0,6 22,6" }));
    items.push(make("li", {}, mark, ` ${dotted}`));
  }
  return make("ul", { className: "legend" }, ...items);
}

function shaded(cell, found, span) {
  const share = Math.min(1, Math.max(0, found.mean / span));
  const colour = setup.shades[Math.round(share * (setup.shades.length - 1))];
  const [r, g, b] = [1, 3, 5].map((place) => (parseInt(colour.slice(place, place + 2), 16) / 255) ** 2.2);
  const light = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  Object.assign(cell.style, { backgroundColor: colour, color: light > 0.18 ? "#000000" : "#ffffff" });
}

function map(caption, down, across, found, chosen, pick) {
  const head = make("tr", {}, make("td"), ...across.map((name) => make("th", { scope: "col", textContent: word(name) })));
  const body = down.map((name) => {
    const cells = across.map((other) => {
      const one = found(name, other);
      const cell = make("td", { textContent: one ? said(one.mean, 2) : "", title: one ? `${word(name)}, ${word(other)}: ${interval(one)}` : "not measured" });
      if (one) shaded(cell, one, 1);
      if (chosen(name, other)) cell.setAttribute("aria-current", "true");
      if (one) cell.addEventListener("click", () => pick(name, other));
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row", textContent: name === "-1" ? "none" : word(name) }), ...cells);
  });
  const parts = [make("caption", { textContent: caption }), make("thead", {}, head), make("tbody", {}, ...body)];
  return scrolled("map", caption, ...parts);
}

function numbers(caption, heads, body) {
  const head = make("tr", {}, ...heads.map((text) => (text ? make("th", { scope: "col", textContent: text }) : make("td"))));
  const lines = body.map(([name, ...cells]) =>
    make("tr", {}, make("th", { scope: "row", textContent: name }), ...cells.map((text) => make("td", { textContent: text }))));
  return scrolled("numbers-chosen", caption, make("caption", { textContent: caption }), make("thead", {}, head), make("tbody", {}, ...lines));
}

function scrolled(kind, label, ...parts) {
  const box = { className: "wide", tabIndex: 0, role: "region", "aria-label": label };
  return make("div", box, make("table", { className: kind }, ...parts));
}

// Panels: each gives its sentence and what is drawn

function drawBehaviour() {
  const { mode, task, subspace, control, scale, k } = state;
  const at = { mode, task, subspace, fraction: k };
  const controls = data.behaviour.axes.control;
  const lines = (measure) => controls.map((name, place) => ({
    name, look: lookOf(name, place), chosen: name === control, rows: rows(data.behaviour, "fraction", { ...at, control: name, measure }),
  }));
  const level = (measure, alpha) => row(data.levels, { task, measure, alpha });
  const charts = SCALES[scale].map((measure) => {
    const levels = [["aligned", 0], ["fine-tuned", 1]].map(([name, alpha]) => ({ name, value: level(measure, alpha)?.mean })).filter((one) => one.value !== undefined);
    return chart({ title: labelOf(measure), xLabel: setup.labels.fraction, lines: lines(measure), levels, fixed: RANGES[measure], xFixed: [0, 1], at: k, key: "k" });
  });
  const found = SCALES[scale].map((measure) => row(data.behaviour, { ...at, control, measure }));
  const body = controls.map((name) => [`${name}, k = ${k}`, ...SCALES[scale].map((measure) => interval(row(data.behaviour, { ...at, control: name, measure })))]);
  for (const [name, alpha] of [["aligned model", 0], ["fine-tuned model", 1]]) body.push([name, ...SCALES[scale].map((measure) => interval(level(measure, alpha)))]);
  const what = `${task} update, ${subspace} subspace ${mode === "parallel" ? "kept" : "removed"}, ${control}, k = ${k}`;
  const grid = data.behaviour.axes.fraction;
  const measured = SCALES[scale].map((measure, place) => `${labelOf(measure)} ${interval(found[place])}`).join(", ");
  const sentence = grid.includes(k) ? `${what}: ${measured}. ${howSure(found.find(Boolean))}` : `${what}: behaviour was not measured at this k, only at ${grid.join(", ")}.`;
  return [sentence, make("div", { className: "charts" }, ...charts), legend(lines(SCALES[scale][0])), numbers(what, ["", ...SCALES[scale].map(labelOf)], body)];
}

function drawEnergy() {
  const { task, subspace, control, part, k } = state;
  const at = { task, subspace, module: part, fraction: k };
  const { control: controls, module: modules, subspace: subspaces } = data.energy.axes;
  const lines = controls.map((name, place) => ({ name, look: lookOf(name, place), chosen: name === control, rows: rows(data.energy, "fraction", { ...at, control: name }) }));
  const what = `${task} update, ${part === "all" ? "all tensors" : part}, in the ${subspace} subspace, k = ${k}`;
  const curve = chart({ title: setup.labels.energy_kept, xLabel: setup.labels.fraction, lines, levels: [], fixed: [0, 1], xFixed: [0, 1], at: k, key: "k" });
  const body = controls.map((name) => [name, interval(row(data.energy, { ...at, control: name }))]);
  const cells = map(`Energy kept at k = ${k}, ${control}: module types by subspaces`, modules, subspaces, (module, other) => row(data.energy, { ...at, control, module, subspace: other }),
    (module, other) => module === part && other === subspace, (module, other) => choose({ part: module, subspace: other }));
  const found = row(data.energy, { ...at, control });
  return [`${what}, ${control}: energy kept ${interval(found)}. ${howSure(found)}`, make("div", { className: "charts" }, make("div", {}, curve, legend(lines), numbers(what, ["", setup.labels.energy_kept], body)), cells)];
}

function drawUpdates() {
  const { pair, layer, module, eta } = state;
  const { layer: layers, module: modules } = data.updates.axes;
  const where = [layer === "all" ? (module === "all" ? "all tensors" : "all layers") : `layer ${layerName(layer)}`, ...(module === "all" ? [] : [module])].join(", ");
  const lines = [{ name: pair, look: lookOf(pair, 0), chosen: true, rows: rows(data.updates, "eta", { pair, layer, module }) }];
  const curve = chart({ title: `overlap (MSO): ${where}`, xLabel: setup.labels.eta, lines, levels: [], fixed: [0, 1], xFixed: [0, 1], at: eta, key: "eta" });
  const cells = map(`Overlap of ${pair} at η = ${eta}: layers by module types`, layers, modules, (one, other) => row(data.updates, { pair, eta, layer: one, module: other }),
    (one, other) => one === layer && other === module, (one, other) => choose({ layer: one, module: other }));
  const [found, whole] = [row(data.updates, { pair, layer, module, eta }), row(data.updates, { pair, layer: "all", module: "all", eta })];
  const chance = (one) => (one ? said(one.random) : "not measured");
  const body = [[where, interval(found), chance(found)], ...(where === "all tensors" ? [] : [["all tensors", interval(whole), chance(whole)]])];
  const what = `${pair}, η = ${eta}`;
  const sentence = found ? `${what}, ${where}: overlap ${interval(found)}, of random subspaces ${chance(found)}. ${howSure(found)}` : `${what}, ${where}: not measured. Overlaps are of matrices, and not every layer has every module type.`;
  return [sentence, make("div", { className: "charts" }, make("div", {}, curve, legend(lines, "random subspaces"), numbers(what, ["", "overlap", "random"], body)), cells)];
}

function drawActivations() {
  const { model, prompts, spread, depth } = state;
  const pairs = choices(CONTROLS.find((control) => control.key === "prompts"));
  const lines = (axis) => pairs.map((name, place) => {
    const found = rows(data.activations, axis, { model, pair: name, eta: spread, layer: depth });
    const shown = name === prompts ? found : found.map((one) => ({ ...one, low: null })); // many bands would hide one another
    return { name, look: lookOf(name, place), chosen: name === prompts, rows: shown };
  });
  const title = setup.labels.mso;
  const charts = [
    chart({ title: `${title}, η = ${spread}`, xLabel: setup.labels.layer, lines: lines("layer"), levels: [], fixed: [0, 1], at: depth, key: "depth" }),
    chart({ title: `${title}, layer ${depth}`, xLabel: setup.labels.eta, lines: lines("eta"), levels: [], fixed: [0, 1], xFixed: [0, 1], at: spread, key: "spread" }),
  ];
  const at = (pair) => row(data.activations, { model, pair, eta: spread, layer: depth });
  const body = pairs.map((pair) => [pair, interval(at(pair)), at(pair) ? said(at(pair).random) : "not measured"]);
  const what = `${model}, layer ${depth}, η = ${spread}`;
  const found = at(prompts);
  const chance = found ? `, of random subspaces ${said(found.random)}` : "";
  return [`${what}, ${prompts}: overlap ${interval(found)}${chance}. ${howSure(found)}`, make("div", { className: "charts" }, ...charts), legend(lines("layer"), `random subspaces (${prompts})`), numbers(what, ["", "overlap", "random"], body)];
}

const PANELS = { behaviour: drawBehaviour, energy: drawEnergy, updates: drawUpdates, activations: drawActivations };

function render(moved) {
  const seeds = data.seeds > 1 ? `${data.seeds} seeds, ${Math.round(data.confidence * 100)} % t intervals over them` : "one seed, which has no interval";
  const notes = moved.map((note) => ` ${note}.`).join("");
  say(document.getElementById("explorer-about"), `${data.title}: ${seeds}${data.published ? "; published results" : ""}.${notes}`);
  for (const control of CONTROLS) fillControl(control);
  for (const [name, drawn] of Object.entries(PANELS)) {
    const place = panel(name);
    const [sentence, ...parts] = data[name] ? drawn() : ["Not measured in this study."];
    place.classList.toggle("empty", !data[name]);
    say(place.querySelector(".said"), sentence[0].toUpperCase() + sentence.slice(1));
    place.querySelector(".drawn").replaceChildren(...parts);
    place.querySelector(".from").replaceChildren(...whence(name));
  }
}

function whence(name) {
  const link = (href, textContent) => make("a", { href, textContent });
  const tables = data.tables[name].map((table, place) => [place ? ", " : "Data: ", link(`results/${state.study}/all/tables/${table}.csv`, `${table}.csv`)]);
  const chapter = data.chapters[name] ? [" What they mean: ", link(data.chapters[name], "the chapter"), "."] : [];
  return tables.length ? [...tables.flat(), ".", ...chapter] : [];
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text; // else a screen reader would say it again
}

function build() {
  const place = document.querySelector("[data-setup]");
  if (!place) return;
  setup = JSON.parse(place.dataset.setup);
  const studies = Object.entries(setup.studies);
  const about = make("p", { id: "explorer-about", className: "said", "aria-live": "polite" });
  if (!studies.length) return place.append("No study of this report has tables that can be explored.");
  const select = make("select", { id: "explorer-study" }, ...studies.map(([value, textContent]) => make("option", { value, textContent })));
  select.addEventListener("input", () => choose({ study: select.value }));
  place.append(make("div", { className: "choice" }, make("label", { htmlFor: "explorer-study", textContent: "Study" }), select), about);
  for (const name of Object.keys(PANELS)) {
    const controls = CONTROLS.filter((control) => control.panel === name).map(controlElement);
    panel(name).append(make("div", { className: "choices" }, ...controls), make("p", { className: "said", "aria-live": "polite" }),
      make("div", { className: "drawn" }), make("p", { className: "from" }));
  }
  addEventListener("hashchange", () => location.hash.includes("=") && fromAddress());
  fromAddress();
}

document.addEventListener("DOMContentLoaded", build);

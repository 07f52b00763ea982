"use strict";

// What is shown of the chosen block. A view is { search, seed, index, target, source }: the index is that of a step.

// The most probable type of a block at a step, or what the search chose where its course is not known; null for neither.
function leading({ search, seed, index }, target, source) {
  const block = seed.blocks[target]?.[source];
  if (block && seed.steps.length) {
    const [type, values] = Object.entries(block.p).reduce((best, one) => (one[1][index] > best[1][index] ? one : best));
    return { type, value: values[index], frozen: block.frozen !== null && index >= block.frozen };
  }
  const type = seed.chosen?.[target]?.[source];
  return type ? { type, value: null, frozen: false } : null;
}

function describe(view, target, source) {
  const found = leading(view, target, source);
  const name = `${titleOf(target)} from ${titleOf(source)}: `;
  if (!found) return `${name}not known`;
  const value = found.frozen ? ", frozen" : found.value === null ? "" : `, probability ${probability(found.value)}`;
  return name + looksOf(found.type).title + value;
}

const blockOf = ({ seed, target, source }) => seed.blocks[target]?.[source];

function sinceWhen(seed, block) {
  return block && block.frozen !== null ? whole(seed.steps[block.frozen]) : "–";
}

function entropyOf(block, index) {
  const shares = Object.values(block.p).map((values) => values[index] / 1000);
  return shares.reduce((sum, share) => (share > 0 ? sum - share * Math.log(share) : sum), 0);
}

function drawCurves(view) {
  const { seed, index } = view;
  const block = blockOf(view);
  byId("curves").hidden = !block;
  if (!block) {
    byId("state").textContent = "No probabilities are recorded for this seed.";
    return;
  }
  const series = Object.entries(block.p).map(([type, values]) => ({ values, look: looksOf(type) }));
  const label = `Probabilities of the context types of ${describe(view, view.target, view.source)}`;
  const format = (value) => (value / 1000).toFixed(1);
  drawChart(byId("curves"), { label, steps: seed.steps, series, high: 1000, index, frozen: block.frozen, height: 260, format });
  const most = Math.log(series.length).toFixed(2);
  const frozen = block.frozen === null ? "not frozen" : `frozen since iteration ${sinceWhen(seed, block)}`;
  byId("state").textContent =
    `At iteration ${whole(seed.steps[index])}: entropy ${entropyOf(block, index).toFixed(2)} of at most ${most} nats; ` +
    (block.frozen !== null && index < block.frozen ? `open, freezes at ${sinceWhen(seed, block)}.` : `${frozen}.`);
}

function candidates(view) {
  const { search, target, source, index } = view;
  const block = blockOf(view);
  const votes = search.vote?.blocks[target]?.[source];
  const costs = search.costs?.blocks[target]?.[source];
  const types = Object.keys(block?.p ?? votes?.votes ?? {});
  if (!types.length) return gap("The candidates of this block are not known.");
  const most = costs ? Math.max(...Object.values(costs).map(([adds]) => adds)) : 0;
  const heads = ["Context type", block && "Probability", votes && "Votes", costs && "Multiply-adds [10⁶]",
    costs && "Parameters [10³]"].filter(Boolean);
  const rows = types.map((type) => row(
    { class: leading(view, target, source)?.type === type ? "leading" : null },
    [sample(type), chip(type)],
    ...[block && bar(probability(block.p[type][index]), block.p[type][index] / 1000), votes && String(votes.votes[type] ?? 0),
      costs && bar(((costs[type]?.[0] ?? 0) / 1e6).toFixed(2), (costs[type]?.[0] ?? 0) / most),
      costs && ((costs[type]?.[1] ?? 0) / 1e3).toFixed(1)].filter(Boolean)));
  return table("Candidates of the block", heads, rows);
}

function bar(text, share) {
  return make("span", { class: "bar" }, make("span", { style: `width:${(100 * share).toFixed(1)}%` }), make("b", {}, text));
}

function costNote({ search }) {
  if (!search.costs) {
    return gap("No multiply-adds: python -m atrc_exp stage=profile with the preset of this search writes its profile.json.");
  }
  const [height, width] = search.costs.size;
  return make("p", { class: "soft" }, `Cost of each context module by itself, for one image of ${height} × ${width} pixels.`);
}

function seedsTable(view) {
  const { search, target, source } = view;
  const rows = search.seeds.map((seed) => {
    const final = leading({ search, seed, index: seed.steps.length - 1 }, target, source);
    const last = final && final.value !== null ? probability(final.value) : "–";
    const how = seed.state === "finished" ? (seed.chosen ? "chosen" : "most probable") : "most probable so far";
    const type = seed.chosen?.[target]?.[source] ?? final?.type;
    return row({ class: seed === view.seed ? "leading" : null }, `seed ${seed.seed}`, type ? chip(type) : "not known",
      type ? how : "–", last, sinceWhen(seed, seed.blocks[target]?.[source]), seed.state);
  });
  return table("Choices of the seeds", ["Search", "Type", "How", "Probability at the end", "Frozen since", "State"], rows);
}

function voteText({ search, target, source }) {
  const { vote } = search;
  const found = vote?.blocks[target]?.[source];
  if (!found) return gap("There is no vote of these searches.");
  const { chosen, votes, agreement, tie } = found;
  const words = [` ${chosen.split("+").map((type) => votes[type]).join("+")} of ${vote.runs} finished searches`];
  if (tie) words.push(`decided from a tie by ${tie}`);
  if (agreement !== null) words.push(`${percent(agreement)} of the pairs of searches agree on this block`);
  const over = vote.agreement === null ? " One search has no agreement to measure."
    : ` Over all blocks ${percent(vote.agreement)} agree, Light's κ ${vote.kappa.toFixed(2)}.`;
  return make("p", {}, "Vote: ", chip(chosen), `${words.join("; ")}.${over}`);
}

function importancePanel({ search, target, source }) {
  if (!search.importance.length) {
    return gap("No importance.json of a run with the genotype of the vote or of a seed; stage=importance run=… writes it.");
  }
  const { metric, scale, places } = DATA.tasks[target];
  const rows = search.importance.flatMap(({ run, basis, blocks }) => {
    const found = Object.keys(blocks).filter((one) => belongs(one, target));
    return (found.length ? found : [target]).map((one) => {
      const { drop, delta_m_drop: delta } = blocks[one]?.[source] ?? {};
      return row({}, run + scaleOf(one, target), basis, delta ? spread(delta, 1, 2) : "–", drop ? spread(drop, scale, places) : "–");
    });
  });
  return [table("Importance of the block", ["Run", "Built on", "Drop of Δm [pp]", `Drop of ${metric}`], rows),
    make("p", { class: "soft" }, "How much worse the network is when the output of the block is permuted among images: mean ± " +
      "standard deviation over permutations. A block without output has none.")];
}

function attentionPanel({ search, target }) {
  const found = search.attention.filter((picture) => belongs(picture.target, target));
  if (!found.length) {
    return gap(`No attention maps of target ${titleOf(target)} of a run with the genotype of the vote or of a seed; ` +
      "stage=attention run=… image=… pixel=y,x writes them.");
  }
  return found.map(({ run, basis, place, uri, target: one }) => make("figure", {},
    make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": `Attention of ${run}` },
      make("img", { src: uri, alt: `Attention of target ${titleOf(target)} by source at image and pixel ${place}, ${run}` })),
    make("figcaption", {},
      `${run}${scaleOf(one, target)}, built on ${basis}: image and pixel (row, column) ${place}, one column a context.`)));
}

const GREY = { line: "#59626d", width: 1.6, dashes: [] };

function drawCourse({ search, seed, index }) {
  const blocks = search.rows.length * search.tasks.length;
  const charts = [["entropy", "Mean entropy of the blocks", Math.log(Math.max(2, mostTypes(seed))), (value) => value.toFixed(2)],
    ["frozen", "Frozen blocks", blocks, (value) => (Number.isInteger(value) ? String(value) : "")]];
  for (const [key, title, high, format] of charts) {
    const known = seed.steps.length && seed[key].some((value) => value !== null);
    byId(key).hidden = !known;
    const value = known ? seed[key][index] : null;
    byId(`${key}-now`).textContent = value === null ? "not recorded" : key === "frozen" ? `${value} of ${blocks}` : `${format(value)} nats`;
    if (!known) continue;
    const series = [{ values: seed[key], look: GREY }];
    drawChart(byId(key), { label: title, steps: seed.steps, series, high, index, frozen: null, height: 140, format });
  }
  const temperature = seed.temperature[index] ?? null;
  byId("temperature").textContent = temperature === null ? "" : `Temperature of the samples ${temperature.toFixed(3)}.`;
}

function mostTypes(seed) {
  const blocks = Object.values(seed.blocks).flatMap((row) => Object.values(row));
  return Math.max(1, ...blocks.map((block) => Object.keys(block.p).length));
}

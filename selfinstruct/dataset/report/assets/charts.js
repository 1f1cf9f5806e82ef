"use strict";
/* The pictures. Texts reach them as data of the chart library, drawn as SVG text, never as HTML. */

const facts = JSON.parse(document.getElementById("facts").textContent);
const runs = facts.runs;
const two = runs.length > 1;
const number = new Intl.NumberFormat("en");
const percent = (share) => `${number.format(Math.round(share * 1000) / 10)}%`;
const total = (counts) => counts.reduce((sum, count) => sum + count, 0);

/* Hues that people of any colour vision tell apart from their neighbours, dark enough for white letters. */
const HUES = ["#2a69ac", "#b4500f", "#1c6b62", "#8a3a78", "#7a6000", "#4a52a8", "#9c2f3f", "#3d6b2a"];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function blend(one, other, share) {
  const parts = (hex) => [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
  const [a, b] = [parts(one), parts(other)];
  return `rgb(${a.map((value, place) => Math.round(value * share + b[place] * (1 - share))).join(",")})`;
}

const runColour = (place) => colour(`run${place}`);
const font = () => getComputedStyle(document.body).fontFamily;

/** What all charts with axes have in common. */
function base(extra) {
  return {
    animation: false,
    textStyle: { fontFamily: font(), color: colour("soft") },
    grid: { left: 4, right: 12, top: two || extra.legend ? 30 : 10, bottom: 4, containLabel: true },
    tooltip: {
      renderMode: "richText",
      trigger: "axis",
      confine: true,
      backgroundColor: colour("sheet"),
      borderColor: colour("line"),
      textStyle: { color: colour("ink"), fontSize: 12 },
      axisPointer: { type: "line", lineStyle: { color: colour("soft") } },
    },
    ...extra,
    legend:
      two || extra.legend
        ? { top: 0, left: 0, itemWidth: 14, itemHeight: 9, textStyle: { color: colour("ink") } }
        : undefined,
  };
}

const axis = (extra) => ({
  axisLine: { lineStyle: { color: colour("line") } },
  axisTick: { show: false },
  splitLine: { show: false },
  axisLabel: { color: colour("soft"), fontSize: 11, hideOverlap: true },
  nameTextStyle: { color: colour("soft"), fontSize: 11 },
  ...extra,
});
const scale = (extra) =>
  axis({
    type: "value",
    splitNumber: 3,
    splitLine: { lineStyle: { color: colour("line") } },
    axisLine: { show: false },
    ...extra,
  });

/** Counts in classes, as shares, so that runs of any size lie on one another. */
function histogram(labels, pick, name) {
  return base({
    xAxis: axis({ type: "category", data: labels }),
    yAxis: scale({
      max: (drawn) => (drawn.max > 0.75 ? 1 : null),
      axisLabel: { formatter: percent, color: colour("soft"), fontSize: 11 },
    }),
    series: runs.map((run, place) => ({
      type: "bar",
      name: two ? run.name : name,
      itemStyle: { color: runColour(place) },
      barCategoryGap: "12%",
      barGap: "0%",
      data: pick(run).counts.map((count) => count / Math.max(1, total(pick(run).counts))),
      tooltip: { valueFormatter: percent },
    })),
  });
}

/** A label stands where its sector is wide enough for a line of text. */
function sunburst(place, box) {
  const radius = Math.min(box.clientWidth, box.clientHeight) / 2;
  const narrowest = (11 / (2 * Math.PI * 0.55 * radius)) * (runs[place].verbs.shown || 1);
  const back = colour("paper"),
    ink = colour("ink"),
    size = radius < 190 ? 10 : 12;
  return {
    animation: false,
    textStyle: { fontFamily: font() },
    tooltip: {
      renderMode: "richText",
      confine: true,
      backgroundColor: colour("sheet"),
      borderColor: colour("line"),
      textStyle: { color: ink, fontSize: 12 },
      formatter: (item) =>
        item.name
          ? `${item.treePathInfo
              .slice(1)
              .map((step) => step.name)
              .join(" ")}: ${number.format(item.value)}`
          : "",
    },
    series: [
      {
        type: "sunburst",
        radius: ["14%", "98%"],
        nodeClick: false,
        sort: null,
        emphasis: { focus: "ancestor" },
        itemStyle: { borderColor: back, borderWidth: 1 },
        data: runs[place].verbs.top.map((verb, row) => ({
          name: verb.name,
          itemStyle: { color: HUES[row % HUES.length] },
          label: { color: "#fff", show: total(verb.nouns.map((noun) => noun.count)) > narrowest },
          children: verb.nouns.map((noun) => ({
            name: noun.name,
            value: noun.count,
            itemStyle: { color: blend(HUES[row % HUES.length], back, 0.3) },
            label: { color: ink, show: noun.count > narrowest },
          })),
        })),
        levels: [
          {},
          { r0: "14%", r: "55%", label: { fontSize: size, rotate: "radial", align: "right", padding: 4 } },
          { r0: "55%", r: "98%", label: { fontSize: size - 1, rotate: "radial", align: "left", padding: 4 } },
        ],
      },
    ],
  };
}

/** Over the drafts so far; of two runs over the share of each. */
function acceptance() {
  const length = (run) =>
    two ? Math.max(...run.acceptance.flatMap((stage) => stage.points.map(([drafts]) => drafts))) : 1;
  const marks = ["solid", "dashed", "dotted"];
  const series = runs.flatMap((run, place) =>
    run.acceptance.map((stage, row) => ({
      type: "line",
      name: two ? `${run.name}: ${stage.stage}` : stage.stage,
      data: stage.points.map(([drafts, share]) => [drafts / length(run), share]),
      showSymbol: false,
      lineStyle: { width: 2, type: marks[row % 3] },
      color: two ? runColour(place) : [colour("run0"), colour("run1"), colour("kept")][row % 3],
      tooltip: { valueFormatter: percent },
    })),
  );
  return base({
    legend: true,
    series,
    xAxis: scale({
      name: two ? "share of the run" : "drafts so far",
      nameLocation: "middle",
      nameGap: 26,
      max: "dataMax",
      splitLine: { show: false },
      splitNumber: 4,
      axisLabel: {
        formatter: two ? percent : number.format,
        hideOverlap: true,
        color: colour("soft"),
        fontSize: 11,
        alignMaxLabel: "right",
      },
    }),
    yAxis: scale({
      min: 0,
      max: 1,
      interval: 0.25,
      axisLabel: { formatter: percent, color: colour("soft"), fontSize: 11 },
    }),
    grid: { left: 4, right: 12, top: 30, bottom: 22, containLabel: true },
  });
}

const reasonOf = (drop) => `${drop.reason.replaceAll("_", " ")} · ${drop.filter}`;

/** By reason and filter, over the stages, the most frequent at the top; of two runs as shares of what each drafted. */
function drops() {
  const written = two ? percent : number.format;
  const counts = runs.map((run) => {
    const found = new Map();
    for (const drop of run.drops)
      found.set(reasonOf(drop), (found.get(reasonOf(drop)) || 0) + drop.drafts / (two ? run.tried : 1));
    return found;
  });
  const sum = (name) => total(counts.map((found) => found.get(name) || 0));
  const names = [...new Set(counts.flatMap((found) => [...found.keys()]))]
    .sort((a, b) => sum(b) - sum(a))
    .slice(0, 12)
    .reverse();
  return base({
    yAxis: axis({ type: "category", data: names, axisLabel: { color: colour("ink"), fontSize: 11 } }),
    xAxis: scale({ axisLabel: { formatter: written, hideOverlap: true, color: colour("soft"), fontSize: 11 } }),
    series: runs.map((run, place) => ({
      type: "bar",
      name: two ? run.name : "drafts",
      data: names.map((name) => counts[place].get(name) || 0),
      itemStyle: { color: runColour(place) },
      barMaxWidth: 26,
      label: {
        show: true,
        position: "right",
        color: colour("soft"),
        fontSize: 11,
        formatter: (item) => written(item.value),
      },
      tooltip: { valueFormatter: written },
    })),
    grid: { left: 4, right: 48, top: two ? 30 : 6, bottom: 4, containLabel: true },
  });
}

const VALUES = 24; /* of a facet, drawn; its table has all */

/** What became of what was made, by value of a facet: the commonest where there are many. */
function fates(place, box) {
  const all = runs[place].facets[box.dataset.facet];
  const least = all.map((row) => row.made).sort((a, b) => b - a)[VALUES - 1] || 0;
  const data = all.filter((row) => row.made >= least).slice(0, VALUES);
  const bar = (name, key, shade) => ({
    type: "bar",
    stack: "all",
    name,
    data: data.map((row) => row[key]),
    itemStyle: { color: shade },
    barMaxWidth: 48,
  });
  return base({
    legend: true,
    xAxis: axis({ type: "category", data: data.map((row) => row.value.replaceAll("_", " ")) }),
    yAxis: scale({ axisLabel: { formatter: number.format, color: colour("soft"), fontSize: 11 } }),
    series: [
      bar("kept", "kept", runColour(place)),
      bar("dropped", "dropped", colour("line")),
      bar("undecided", "undecided", colour("faint")),
    ],
  });
}

function tokens() {
  const stages = [...new Set(runs.flatMap((run) => run.spend.map((spend) => spend.stage)))].reverse();
  const part = (run, stage, of) => {
    const spend = run.spend.find((one) => one.stage === stage);
    return spend ? of(spend) : 0;
  };
  const kinds = [
    ["in", (s) => s.prompt - s.cached, 1],
    ["in, cached", (s) => s.cached, 0.35],
    ["out", (s) => s.completion, -1],
  ];
  return base({
    legend: true,
    yAxis: axis({ type: "category", data: stages, axisLabel: { color: colour("ink"), fontSize: 11 } }),
    xAxis: scale({
      axisLabel: {
        formatter: new Intl.NumberFormat("en", { notation: "compact" }).format,
        hideOverlap: true,
        color: colour("soft"),
        fontSize: 11,
      },
    }),
    series: runs.flatMap((run, place) =>
      kinds.map(([name, of, shade]) => ({
        type: "bar",
        stack: run.name + place,
        barMaxWidth: 26,
        name: two ? `${run.name}: ${name}` : name,
        data: stages.map((stage) => part(run, stage, of)),
        itemStyle: {
          color:
            shade < 0
              ? blend(colour(two ? `run${place}` : "run1"), colour("ink"), two ? 0.45 : 1)
              : blend(runColour(place), colour("paper"), shade),
        },
      })),
    ),
    grid: { left: 4, right: 24, top: two ? 64 : 30, bottom: 4, containLabel: true },
  });
}

const steps = () => runs[0].similarity.seed.counts.map((_, place, all) => (place / all.length).toFixed(2));
const PICTURES = {
  verbs: sunburst,
  "similarity-seed": () => histogram(steps(), (run) => run.similarity.seed, "samples"),
  "similarity-other": () => histogram(steps(), (run) => run.similarity.other, "samples"),
  "lengths-instruction": () => histogram(runs[0].lengths.labels, (run) => run.lengths.instruction, "instructions"),
  "lengths-input": () => histogram(runs[0].lengths.labels, (run) => run.lengths.input, "inputs"),
  "lengths-output": () => histogram(runs[0].lengths.labels, (run) => run.lengths.output, "outputs"),
  acceptance,
  drops,
  fates,
  tokens,
};

function draw() {
  for (const place of document.querySelectorAll(".chart")) {
    const chart = echarts.getInstanceByDom(place) || echarts.init(place, null, { renderer: "svg" });
    chart.setOption(PICTURES[place.dataset.chart](Number(place.dataset.run || 0), place), true);
  }
}

function resize() {
  for (const place of document.querySelectorAll(".chart")) echarts.getInstanceByDom(place)?.resize();
}

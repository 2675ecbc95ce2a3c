/* The table of clips, which sorts, filters and chooses, and the panel of the clip chosen. */
const panel = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.querySelector("table.clips");
  if (!table) return { draw: () => {} };
  const { colour, literal } = charts;
  const chart = document.querySelector(".chart.clip");
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const clipOf = (row) => data.clips[Number(row.dataset.index)];
  const shown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
  const said = (value) => (value === null ? "n/a" : value.toFixed(3).replace("-", "\u2212"));
  let chosen = null;
  let track = null;

  // --- series, packed by va/evaluate/pages/report_charts.py: times as int32, then values as int16, both as differences

  const unpack = async (clip) => {
    const bytes = Uint8Array.from(atob(clip.packed), (letter) => letter.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const buffer = await new Response(plain).arrayBuffer();
    let at = 0;
    const series = (Kind, length, unit, gap) => {
      if (!length) return [gap === null ? 0 : null]; // plotly has no place for a trace without points
      const whole = new Kind(buffer, at, length);
      at += whole.byteLength;
      for (let index = 1; index < length; index += 1) whole[index] += whole[index - 1]; // wraps, as it was packed
      return Array.from(whole, (value) => (value === gap ? null : value * unit));
    };
    const times = (length) => series(Int32Array, length, data.time_unit, null);
    const values = (length) => series(Int16Array, length, clip.unit, data.gap);
    const pair = () => [values(clip.frames), values(clip.frames)];
    const found = { clip, time: times(clip.frames), cellTime: times(clip.cells), target: pair(), prediction: pair() };
    found.smoothed = clip.smoothed ? pair() : null;
    found.regions = data.plane.labels.map(() => values(clip.cells));
    found.gate = values(clip.cells);
    return found;
  };

  // --- the panel

  const LANES = [["no sound", "no_sound", "--sound", "/"], ["no face", "no_face", "--face", "x"], ["no label", "no_label", "--gone", "|"]];

  const domains = (height, regions) => {
    const fixed = [["gate", 48], ...(regions ? [["regions", 17 * regions]] : []), ["lanes", 51]];
    const rest = height - fixed.reduce((sum, [, size]) => sum + size, 0) - (fixed.length + 1) * 14;
    const found = {};
    let bottom = 0;
    for (const [name, size] of [...fixed, ["arousal", rest / 2], ["valence", rest / 2]]) {
      found[name] = [bottom / height, Math.min(1, (bottom + size) / height)];
      bottom += size + 14;
    }
    return found;
  };

  const lines = () => ["valence", "arousal"].flatMap((name, index) => [
    ["annotation", track.target, { color: colour("--truth"), width: 1.4, dash: "3px,2px" }],
    ["prediction", track.prediction, { color: colour("--accent"), width: 1.7 }],
    ["smoothed", track.smoothed, { color: colour("--smooth"), width: 2 }],
  ].filter(([, values]) => values).map(([kind, values, line]) => ({
    name: kind, legendgroup: kind, showlegend: index === 0, mode: "lines", line,
    x: track.time, y: values[index], yaxis: index ? "y2" : "y", hovertemplate: `${name}, ${kind} %{y:.3f}<extra></extra>`,
  })));

  // The empty stretch before them is there because plotly has no place for a trace without points.
  const missing = () => LANES.map(([name, key, tone, shape], lane, _, spans = [[0, 0], ...track.clip[key]]) => ({
    type: "bar", orientation: "h", name, showlegend: false, yaxis: "y3", width: 0.7, hoverinfo: "skip",
    y: spans.map(() => lane), base: spans.map(([from]) => from), x: spans.map(([from, to]) => to - from),
    marker: { color: colour(tone), line: { width: 0 }, pattern: { shape, size: 5, solidity: 0.5, fgcolor: colour(tone) } },
  }));

  const regionRows = (narrow, domain, height) => (domain ? [{
    type: "heatmap", name: "regions", yaxis: "y4", z: track.regions, zmin: 0, zmax: data.region_top, hoverongaps: false,
    x0: track.cellTime[0], dx: track.clip.cells > 1 ? track.cellTime[1] - track.cellTime[0] : 0.5,
    colorscale: [[0, colour("--panel")], [1, colour("--accent")]], showscale: !narrow,
    customdata: data.plane.texts.map((text) => track.cellTime.map(() => literal(text))),
    hovertemplate: "%{customdata}: %{z:.2f}<extra></extra>",
    colorbar: {
      thickness: 8, outlinewidth: 0, nticks: 3, x: 1.005, y: (domain[0] + domain[1]) / 2, ypad: 0,
      lenmode: "pixels", len: height * (domain[1] - domain[0]),
    },
  }] : []);

  const gate = () => [{
    name: "gate", yaxis: "y5", x: track.cellTime, y: track.gate, mode: "lines", fill: "tozeroy", showlegend: false,
    line: { color: colour("--sound"), width: 1.5 }, fillcolor: colour("--sound-shade"),
    hovertemplate: "gate (share of the sound) %{y:.2f}<extra></extra>",
  }];

  const draw = () => {
    if (!track) return undefined;
    const narrow = chart.clientWidth < 560;
    const margin = { l: 84, r: narrow ? 8 : 48, t: 30, b: 42 };
    const height = chart.clientHeight - margin.t - margin.b;
    const domain = domains(height, data.plane.labels.length);
    const traces = [...lines(), ...missing(), ...regionRows(narrow, domain.regions, height), ...gate()];
    const reached = [track.target, track.prediction].flat(2).reduce((top, value) => Math.max(top, Math.abs(value)), 1);
    const side = (title, more) => charts.axis({
      title: { text: title, standoff: 8 }, fixedrange: true, tickvals: [-1, 0, 1], range: [-1.05 * reached, 1.05 * reached], ...more,
    });
    return Plotly.react(chart, traces, charts.layout({
      margin, barmode: "overlay", showlegend: true, hovermode: "x unified", hoversubplots: "axis",
      dragmode: charts.touch ? false : "zoom", uirevision: track.clip.id,
      legend: { orientation: "h", x: 0, y: 1, yanchor: "bottom", itemwidth: 30 },
      xaxis: charts.axis({
        title: { text: "time (s)", standoff: 6 }, anchor: "y5", zeroline: false, range: [0, track.clip.end], hoverformat: ".2f",
        unifiedhovertitle: { text: "%{x:.2f} s" },
        minallowed: 0, maxallowed: track.clip.end,
      }),
      yaxis: side("valence", { domain: domain.valence }),
      yaxis2: side("arousal", { domain: domain.arousal }),
      yaxis3: side("", { type: "linear", domain: domain.lanes, range: [-0.6, 2.6], tickvals: [0, 1, 2], ticktext: LANES.map(([name]) => name), showgrid: false, zeroline: false }),
      ...(domain.regions && { yaxis4: side("", {
        domain: domain.regions, range: [-0.5, data.plane.labels.length - 0.5], showgrid: false, zeroline: false,
        tickvals: data.plane.labels.map((_, index) => index), ticktext: data.plane.labels.map(literal),
      }) }),
      yaxis5: side("", { domain: domain.gate, range: [0, 1], tickvals: [0, 0.5, 1], ticktext: ["", "gate", ""], zeroline: false }),
      shapes: LANES.flatMap(([, key, tone]) => track.clip[key].flatMap(([from, to]) => ["y", "y2"].map((name) => ({
        type: "rect", xref: "x", yref: `${name} domain`, x0: from, x1: to, y0: 0, y1: 1,
        fillcolor: colour(tone), opacity: 0.16, line: { width: 0 }, layer: "below",
      })))),
    }), charts.config([["toImage"], ["resetScale2d"]]));
  };

  const zoom = (how) => {
    if (!chart.layout) return;
    const { end } = track.clip;
    const [from, to] = chart.layout.xaxis.range;
    const [middle, half] = [(from + to) / 2, (to - from) / 2];
    const [centre, reach] = {
      in: [middle, Math.max(half / 2, 0.5)], out: [middle, half * 2], earlier: [middle - half, half], later: [middle + half, half],
      all: [end / 2, end / 2],
    }[how];
    const width = Math.min(2 * reach, end);
    const first = Math.min(Math.max(0, centre - width / 2), end - width);
    Plotly.relayout(chart, { "xaxis.range": [first, first + width] });
  };

  // --- choosing

  const announce = () => {
    const clip = clipOf(chosen);
    const [, , valence, arousal, mean] = clip.sort;
    const order = shown();
    document.getElementById("chosen").textContent = clip.id;
    document.getElementById("chosen-figures").textContent =
      `CCC of this clip alone: valence ${said(valence)}, arousal ${said(arousal)}, mean ${said(mean)}`;
    document.getElementById("announced").textContent =
      `Clip ${order.indexOf(chosen) + 1} of ${order.length} chosen: ${clip.id}, mean CCC ${said(mean)}`;
  };

  const choose = async (row, { focus = false, remember = true } = {}) => {
    for (const other of rows) {
      other.tabIndex = other === row ? 0 : -1;
      other.setAttribute("aria-selected", String(other === row));
    }
    if (focus) row.focus({ preventScroll: true });
    // Only the box scrolls, and leaves room for its own head.
    const box = table.closest(".box");
    const head = table.tHead.offsetHeight;
    if (row.offsetTop - head < box.scrollTop) box.scrollTop = row.offsetTop - head;
    if (row.offsetTop + row.offsetHeight > box.scrollTop + box.clientHeight) {
      box.scrollTop = row.offsetTop + row.offsetHeight - box.clientHeight;
    }
    if (row === chosen) return;
    chosen = row;
    announce();
    const clip = clipOf(row);
    if (remember) history.replaceState(null, "", `#clip=${encodeURIComponent(clip.id)}`);
    const found = await unpack(clip);
    if (chosen !== row) return; // another one was chosen meanwhile
    track = found;
    charts.redraw(chart);
  };

  const fromAddress = () => {
    if (!location.hash.startsWith("#clip=")) return null;
    let name = location.hash.slice(6);
    try { name = decodeURIComponent(name); } catch { /* taken as it is */ }
    return rows.find((row) => clipOf(row).id === name) ?? null;
  };

  const moves = {
    ArrowDown: (at, last) => Math.min(at + 1, last), ArrowUp: (at) => Math.max(at - 1, 0), Home: () => 0, End: (_, last) => last,
    PageDown: (at, last) => Math.min(at + 8, last), PageUp: (at) => Math.max(at - 8, 0),
  };

  // --- sorting and filtering

  const sortBy = (column) => {
    const head = heads[column];
    const way = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", way);
    const sign = way === "ascending" ? 1 : -1;
    const byName = (a, b) => clipOf(a).id.localeCompare(clipOf(b).id, undefined, { numeric: true });
    const value = (row) => clipOf(row).sort[column - 1];
    rows.sort((a, b) => {
      if (column === 0) return sign * byName(a, b);
      if (value(a) === null || value(b) === null) return (value(a) === null) - (value(b) === null) || byName(a, b);
      return sign * (value(a) - value(b)) || byName(a, b);
    });
    table.tBodies[0].append(...rows);
    announce();
  };

  const filter = (words) => {
    for (const row of rows) row.hidden = !clipOf(row).id.toLowerCase().includes(words.toLowerCase());
    const count = shown().length;
    document.getElementById("filtered").textContent = words ? `${count} of ${rows.length} clips` : `${rows.length} clips`;
    // The keyboard must find a way in, even when the chosen clip is filtered out.
    const entry = chosen.hidden ? shown()[0] : chosen;
    for (const row of rows) row.tabIndex = row === entry ? 0 : -1;
  };

  table.setAttribute("role", "grid");
  table.closest(".box").tabIndex = -1; // its rows take the focus
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(column));
    head.append(button);
  });
  table.tBodies[0].addEventListener("click", (event) => choose(event.target.closest("tr"), { focus: true }));
  table.tBodies[0].addEventListener("keydown", (event) => {
    const order = shown();
    const move = moves[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(order[move(order.indexOf(event.target.closest("tr")), order.length - 1)], { focus: true });
  });
  table.tBodies[0].addEventListener("focusin", (event) => choose(event.target.closest("tr")));
  document.getElementById("filter").addEventListener("input", (event) => filter(event.target.value));
  for (const button of document.querySelectorAll("[data-zoom]")) button.addEventListener("click", () => zoom(button.dataset.zoom));
  addEventListener("hashchange", () => { const row = fromAddress(); if (row) choose(row); });

  const named = fromAddress();
  choose(named ?? rows[0], { remember: false });
  if (named) document.getElementById("clips").scrollIntoView();

  return { draw };
})();

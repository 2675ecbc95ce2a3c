/* Draws the plane and the diagnostics of an evaluation, and starts all of its charts. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { colour, literal } = charts;
  const config = charts.config([["toImage"]]);
  const legend = { orientation: "h", x: 0, y: 1, yanchor: "bottom", itemwidth: 30 };
  const line = (name, x, y, tone, more) => ({
    name, x, y, mode: "lines+markers", line: { color: colour(tone), width: 2 }, marker: { size: 5, color: colour(tone) }, ...more,
  });
  const TONES = { valence: "--accent", arousal: "--second", mean: "--truth" };
  const SYMBOLS = { valence: "circle", arousal: "diamond", mean: "square" };

  const drawPlane = (element) => {
    const { plane } = data;
    const index = Number(element.dataset.index);
    const root = (share) => (share === null ? null : Math.sqrt(share));
    const marks = [0.04, 0.3, 0.9].map((part) => part * plane.top);
    const middle = plane.edges.slice(1).map((edge, bin) => (edge + plane.edges[bin]) / 2);
    const split = (direction) => (value) => ({
      type: "line", line: { color: colour("--muted"), width: 1, dash: "dot" },
      ...(direction === "x" ? { x0: value, x1: value, y0: -1, y1: 1 } : { y0: value, y1: value, x0: -1, x1: 1 }),
    });
    const side = (title, more) => charts.axis({
      title: { text: title, standoff: 6 }, range: [-1, 1], tickvals: [-1, -0.5, 0, 0.5, 1], constrain: "domain", fixedrange: true, ...more,
    });
    return Plotly.react(element, [{
      type: "heatmap", x: middle, y: middle, z: plane.densities[index].map((row) => row.map(root)), hoverongaps: false,
      customdata: plane.densities[index].map((row) => row.map((share) => 100 * share)), zmin: 0, zmax: Math.sqrt(plane.top) || 1,
      colorscale: [[0, colour("--panel")], [1, colour("--accent")]],
      hovertemplate: "valence %{x:.2f}, arousal %{y:.2f}<br>%{customdata:.2f}% of the frames<extra></extra>",
      colorbar: {
        orientation: "h", thickness: 8, outlinewidth: 0, y: -0.14, yanchor: "top", ypad: 0, xpad: 0,
        tickvals: marks.map(Math.sqrt), ticktext: marks.map((mark) => `${(100 * mark).toPrecision(2)}%`),
      },
    }], charts.layout({
      margin: { l: 46, r: 6, t: 6, b: 76 },
      hovermode: "closest",
      xaxis: side("valence"),
      yaxis: side("arousal", { scaleanchor: "x", scaleratio: 1 }),
      shapes: [...plane.valence_splits.map(split("x")), ...plane.arousal_splits.map(split("y"))],
      annotations: plane.labels.map((label, region) => ({
        text: literal(label), x: plane.label_at[region][0], y: plane.label_at[region][1],
        showarrow: false, yanchor: "top", yshift: -2, bgcolor: colour("--paper"), opacity: 0.8, borderpad: 1,
        font: { size: element.clientWidth < 400 ? 10 : 11, color: colour("--ink") },
      })),
    }), config);
  };

  const small = (element, traces, { x, y, ...more }) => Plotly.react(element, traces, charts.layout({
    margin: { l: 50, r: 8, t: 28, b: 40 }, showlegend: true, legend, hovermode: "closest",
    xaxis: charts.axis({ fixedrange: true, zeroline: false, ...x, title: { text: x.title, standoff: 6 } }),
    yaxis: charts.axis({ fixedrange: true, ...y, title: { text: y.title, standoff: 6 } }),
    ...more,
  }), config);

  const drawCalibration = (element) => {
    const found = Object.entries(data.calibration);
    const reach = 1.05 * Math.max(0.1, ...found.flatMap(([, one]) => [...one.predicted, ...one.annotated, ...one.low, ...one.high]).map(Math.abs));
    return small(element, found.map(([name, one]) => line(name, one.predicted, one.annotated, TONES[name], {
      marker: { size: 6, color: colour(TONES[name]), symbol: SYMBOLS[name] }, customdata: one.count,
      error_y: {
        type: "data", symmetric: false, thickness: 1.2, width: 0,
        array: one.annotated.map((value, bin) => one.high[bin] - value),
        arrayminus: one.annotated.map((value, bin) => value - one.low[bin]),
      },
      hovertemplate: `${name}: predicted %{x:.3f}, annotated %{y:.3f}<br>%{customdata:,} frames<extra></extra>`,
    })), {
      x: { title: "mean prediction", range: [-reach, reach], constrain: "domain" },
      y: { title: "mean annotation", range: [-reach, reach], constrain: "domain", scaleanchor: "x" },
      shapes: [{ type: "line", x0: -reach, y0: -reach, x1: reach, y1: reach, line: { color: colour("--muted"), width: 1, dash: "dot" } }],
    });
  };

  const drawOverTime = (element) => small(element, ["valence", "arousal"].map((name) => line(
    name, data.over_time.time_s, data.over_time[`mae_${name}`], TONES[name], {
      marker: { size: 6, color: colour(TONES[name]), symbol: SYMBOLS[name] }, customdata: data.over_time.count,
      hovertemplate: `${name}: %{y:.3f} at %{x:.1f} s<br>%{customdata:,} frames<extra></extra>`,
    },
  )), { x: { title: "time into the clip (s)", rangemode: "tozero" }, y: { title: "mean absolute error", rangemode: "tozero" } });

  const drawLag = (element) => small(element, ["valence", "arousal", "mean"].map((name) => line(
    name, data.lag.shift_s, data.lag[`ccc_${name}`], TONES[name], {
      marker: { size: 5, color: colour(TONES[name]), symbol: SYMBOLS[name] }, line: { color: colour(TONES[name]), width: 2, dash: { arousal: "6px,3px", mean: "2px,2px" }[name] ?? "solid" },
      hovertemplate: `${name}: %{y:.3f} at %{x:.2f} s<extra></extra>`,
    },
  )), {
    x: { title: "shift (s)", zeroline: true }, y: { title: "CCC", zeroline: false },
    shapes: [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: data.lag.best_s, x1: data.lag.best_s, line: { color: colour("--ink"), width: 1 } }],
    annotations: [{
      text: `best ${data.lag.best_s.toFixed(2).replace("-", "\u2212")} s`, x: data.lag.best_s, yref: "paper", y: 0, yanchor: "bottom",
      xanchor: data.lag.best_s > 0 ? "right" : "left", showarrow: false, font: { color: colour("--ink") },
    }],
  });

  const DRAWERS = {
    clip: panel.draw, square: drawPlane, calibration: drawCalibration, "over-time": drawOverTime, lag: drawLag,
  };
  const kind = (element) => Object.keys(DRAWERS).find((name) => element.classList.contains(name));
  const PRINTED = { clip: { width: 690 }, square: { width: 335, height: 360 } };
  charts.start((element) => DRAWERS[kind(element)](element), (element) => PRINTED[kind(element)] ?? { width: 222, height: 240 });
})();

/* Draws the charts of an evaluation report from the JSON in #report-data. */
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    // A list of what is offered, because the default offers to upload the data to plotly.js' makers.
    modeBarButtons: [["toImage"], ["resetScale2d"]],
    showSendToCloud: false,
    plotlyServerURL: "",
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly reads a subset of HTML in every text; data is text, so its markup is shown, not read.
  const literal = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  const base = () => ({
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--muted") },
    hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--accent") },
    dragmode: touch ? false : "zoom",
    showlegend: true,
  });
  const axis = (more) => ({
    gridcolor: colour("--grid"),
    linecolor: colour("--line"),
    zeroline: true,
    zerolinecolor: colour("--line"),
    zerolinewidth: 1,
    ticks: "",
    ...more,
  });

  const drawTrack = (element, clip) => {
    const lines = ["valence", "arousal"].flatMap((name, index) => [
      {
        name: "annotation", legendgroup: "annotation", showlegend: index === 0,
        x: clip.time_s, y: clip.target[index], yaxis: index ? "y2" : "y",
        mode: "lines", line: { color: colour("--truth"), width: 1.4, dash: "3px,2px" },
        hovertemplate: `${name} annotated %{y:.3f}<extra></extra>`,
      },
      {
        name: "prediction", legendgroup: "prediction", showlegend: index === 0,
        x: clip.time_s, y: clip.prediction[index], yaxis: index ? "y2" : "y",
        mode: "lines", line: { color: colour("--accent"), width: 2 },
        hovertemplate: `${name} predicted %{y:.3f}<extra></extra>`,
      },
    ]);
    const shading = {
      name: "no valid label", x: [null], y: [null], mode: "markers", hoverinfo: "skip",
      marker: { symbol: "square", size: 12, color: colour("--shade") },
    };
    const values = lines.flatMap((line) => line.y).filter((value) => value !== null);
    const limit = 1.05 * Math.max(1, ...values.map(Math.abs));
    const side = (title, domain) => axis({
      title: { text: title, standoff: 8 }, domain, range: [-limit, limit], tickvals: [-1, 0, 1], fixedrange: true,
    });
    return Plotly.react(element, clip.shaded.length ? [...lines, shading] : lines, {
      ...base(),
      margin: { l: 52, r: 8, t: 30, b: 44 },
      hovermode: "x unified",
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemwidth: 30 },
      xaxis: axis({ title: { text: "time (s)", standoff: 6 }, anchor: "y2", zeroline: false, hoverformat: ".2f" }),
      yaxis: side("valence", [0.53, 1]),
      yaxis2: side("arousal", [0, 0.47]),
      shapes: clip.shaded.map(([from, to]) => ({
        type: "rect", xref: "x", yref: "paper", x0: from, x1: to, y0: 0, y1: 1,
        fillcolor: colour("--shade"), line: { width: 0 }, layer: "below",
      })),
    }, config);
  };

  const drawPlane = (element, plane) => {
    const points = (name, values, marker) => ({
      name, mode: "markers", x: values.map((value) => value[0]), y: values.map((value) => value[1]), marker,
      hovertemplate: `${name}<br>valence %{x:.3f}<br>arousal %{y:.3f}<extra></extra>`,
    });
    const split = (direction) => (value) => ({
      type: "line", line: { color: colour("--muted"), width: 1, dash: "dot" }, layer: "below",
      ...(direction === "x"
        ? { x0: value, x1: value, y0: -1.05, y1: 1.05 }
        : { y0: value, y1: value, x0: -1.05, x1: 1.05 }),
    });
    const narrow = element.clientWidth < 480;
    const side = (title, more) => axis({ title: { text: title, standoff: 6 }, range: [-1.05, 1.05], tickvals: [-1, -0.5, 0, 0.5, 1], constrain: "domain", ...more });
    return Plotly.react(element, [
      points("annotation", plane.points_target, {
        symbol: "circle-open", size: 6, opacity: 0.55, color: colour("--truth"), line: { width: 1 },
      }),
      points("prediction", plane.points_prediction, { size: 5.5, opacity: 0.55, color: colour("--accent") }),
      {
        name: "region centre", mode: "markers", hoverinfo: "text",
        x: plane.centers.map((center) => center[0]), y: plane.centers.map((center) => center[1]),
        hovertext: plane.texts.map(literal),
        marker: { symbol: "cross-thin-open", size: 11, color: colour("--ink"), line: { width: 1.5 } },
      },
    ], {
      ...base(),
      margin: { l: 50, r: 8, t: 30, b: 44 },
      hovermode: "closest",
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemwidth: 30 },
      xaxis: side("valence"),
      yaxis: side("arousal", { scaleanchor: "x", scaleratio: 1 }),
      shapes: [...plane.valence_splits.map(split("x")), ...plane.arousal_splits.map(split("y"))],
      annotations: plane.labels.map((label, index) => ({
        text: literal(label), x: plane.label_at[index][0], y: plane.label_at[index][1],
        showarrow: false, yanchor: "top", yshift: -3, bgcolor: colour("--paper"), opacity: 0.85, borderpad: 1,
        font: { size: narrow ? 10 : 12, color: colour("--ink") },
      })),
    }, config);
  };

  const draw = () => {
    for (const element of document.querySelectorAll(".chart.track")) {
      drawTrack(element, data.clips[Number(element.dataset.index)]);
    }
    const square = document.querySelector(".chart.square");
    if (square) drawPlane(square, data.plane);
  };

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  const onPaper = (printing) => () => {
    document.documentElement.classList.toggle("printing", printing);
    if (printing) for (const details of document.querySelectorAll("details")) details.open = true;
    draw();
    for (const element of document.querySelectorAll(".chart")) {
      // Script runs before the page has its printed size, so these repeat what the print style sheet says.
      const printed = element.classList.contains("track") ? { width: 700, height: 230 } : { width: 385, height: 400 };
      Plotly.relayout(element, printing ? printed : { width: null, height: null, autosize: true });
    }
  };
  addEventListener("beforeprint", onPaper(true));
  addEventListener("afterprint", onPaper(false));
})();

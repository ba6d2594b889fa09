// Draws every chart of a page with plotly: in the page's colours, as wide as there is room, and by keyboard too.
"use strict";

(() => {
  const NARROW = 420; // pixels that a 3-D view needs, so that there are as many beside each other as fit
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const coarse = window.matchMedia("(pointer: coarse)");
  const INK = "#222222"; // the one colour of lines that cannot be seen on a dark ground
  const axes = (layout) => Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));
  const scenes = (layout) => Object.keys(layout).filter((key) => /^scene\d*$/.test(key));

  function template() {
    const css = getComputedStyle(document.documentElement);
    const colour = (name) => css.getPropertyValue("--" + name).trim();
    const axis = { gridcolor: colour("rule"), linecolor: colour("quiet"), zerolinecolor: colour("quiet"), automargin: true };
    const wall = { ...axis, tickfont: { size: 11 }, backgroundcolor: colour("card"), showbackground: true, showspikes: false };
    return { layout: {
      paper_bgcolor: colour("card"), plot_bgcolor: colour("card"),
      font: { color: colour("ink"), family: "system-ui, sans-serif", size: 13 },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("quiet"), font: { color: colour("ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("quiet"), activecolor: colour("ink") },
      margin: { l: 56, r: 12, t: 34, b: 44 },
      xaxis: axis, yaxis: axis, scene: { xaxis: wall, yaxis: wall, zaxis: wall },
    } };
  }

  // 3-D views in rows of as many as fit, each with its title above it.
  function place(layout, width) {
    const views = scenes(layout);
    const columns = Math.max(1, Math.min(views.length, Math.floor(width / NARROW)));
    const rows = Math.ceil(views.length / columns);
    const high = columns === 1 ? Math.min(340, width) : 420;
    views.forEach((view, i) => {
      const left = (i % columns) / columns, top = 1 - Math.floor(i / columns) / rows;
      layout[view].domain = { x: [left, left + 1 / columns], y: [top - 1 / rows, top - 28 / (rows * high)] };
      if (width < NARROW) layout[view].zaxis.title.text = ""; // there is no room for it, and the colour bar has it
      Object.assign(layout.annotations[i], { x: left + 0.5 / columns, y: top, yanchor: "top" });
    });
    layout.margin = { l: 0, r: 0, t: 34, b: 80 }; // plotly's buttons are above, the colour bar below
    layout.height = rows * high + 114;
  }

  async function draw(chart) {
    if (!window.Plotly) throw new Error("plotly.min.js is missing, which published pages share; it lies two folders above this one.");
    const { data, layout } = JSON.parse(chart.nextElementSibling.textContent);
    Object.assign(layout, { template: template(), uirevision: "kept", autosize: true });
    if (scenes(layout).length) {
      place(layout, chart.clientWidth);
    } else {
      const panels = axes(layout).filter((key) => key[0] === "y").length;
      const names = data.filter((trace) => trace.showlegend !== false).length;
      layout.xaxis.title.standoff = 6;
      layout.legend.y = -60 / (220 * panels); // below the title of the horizontal axis
      layout.height = 100 + 250 * panels + 22 * Math.ceil((names * 150) / chart.clientWidth);
      if (coarse.matches) layout.dragmode = false; // a finger scrolls the page
    }
    if (dark.matches) {
      for (const trace of data) {
        for (const part of [trace, trace.line, trace.marker]) {
          for (const key of ["color", "fillcolor"]) {
            if (part && part[key] === INK) part[key] = "#ececee";
          }
        }
      }
    }
    await Plotly.react(chart, data, layout, { displaylogo: false, scrollZoom: false });
  }

  // Turning one 3-D view turns the others of its chart, so that they are seen from the same side.
  function together(chart) {
    chart.on("plotly_relayout", (change) => {
      const turned = Object.keys(change).find((key) => /^scene\d*\.camera$/.test(key));
      const others = scenes(chart.layout).filter((view) => turned && view !== turned.split(".")[0]);
      const wanted = turned && JSON.stringify(change[turned]);
      const late = others.filter((view) => JSON.stringify(chart.layout[view].camera) !== wanted);
      if (late.length) Plotly.relayout(chart, Object.fromEntries(late.map((view) => [view + ".camera", JSON.parse(wanted)])));
    });
  }

  function turn(chart, key) {
    const views = scenes(chart.layout);
    const first = JSON.parse(chart.nextElementSibling.textContent).layout[views[0]].camera.eye;
    const { x, y, z } = key === "0" ? first : chart.layout[views[0]].camera.eye;
    let far = Math.hypot(x, y, z), round = Math.atan2(y, x), up = Math.asin(z / far);
    if (key === "ArrowLeft") round -= 0.2;
    else if (key === "ArrowRight") round += 0.2;
    else if (key === "ArrowUp") up = Math.min(1.5, up + 0.15);
    else if (key === "ArrowDown") up = Math.max(-1.5, up - 0.15);
    else if (key === "+") far *= 0.85;
    else if (key === "-") far /= 0.85;
    const eye = { x: far * Math.cos(up) * Math.cos(round), y: far * Math.cos(up) * Math.sin(round), z: far * Math.sin(up) };
    Plotly.relayout(chart, Object.fromEntries(views.map((view) => [view + ".camera.eye", eye])));
  }

  function zoom(chart, key) {
    if (key === "0") {
      Plotly.relayout(chart, Object.fromEntries(axes(chart.layout).map((axis) => [axis + ".autorange", true])));
      return;
    }
    const [low, high] = chart.layout.xaxis.range;
    const step = (high - low) * 0.15;
    const moves = { ArrowLeft: [-step, -step], ArrowRight: [step, step], "+": [step, -step], "-": [-step, step] };
    if (moves[key]) Plotly.relayout(chart, { "xaxis.range": [low + moves[key][0], high + moves[key][1]] });
  }

  function toggle(chart, count) {
    const names = chart.data.filter((trace) => trace.showlegend !== false && trace.legendgroup).map((trace) => trace.legendgroup);
    const mine = chart.data.flatMap((trace, i) => (trace.legendgroup === names[count - 1] ? [i] : []));
    if (!mine.length) return;
    Plotly.restyle(chart, { visible: chart.data[mine[0]].visible === "legendonly" ? true : "legendonly" }, mine);
  }

  function pressed(chart, event) {
    if (event.target !== chart || event.ctrlKey || event.altKey || event.metaKey) return;
    const spatial = scenes(chart.layout).length > 0;
    if (["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "+", "-", "0"].includes(event.key)) {
      if (!spatial && /Up|Down/.test(event.key)) return; // which scroll the page
      event.preventDefault();
      (spatial ? turn : zoom)(chart, event.key);
    } else if (/^[1-9]$/.test(event.key) && !spatial) {
      toggle(chart, Number(event.key));
    }
  }

  function fail(chart, error) {
    chart.replaceChildren("This chart could not be drawn: " + error.message);
    chart.classList.add("broken");
  }

  for (const chart of document.querySelectorAll(".chart")) {
    let width = chart.clientWidth, waiting;
    const again = () => draw(chart).catch((error) => fail(chart, error));
    draw(chart).then(() => {
      together(chart);
      chart.addEventListener("keydown", (event) => pressed(chart, event));
      dark.addEventListener("change", again);
      new ResizeObserver(() => {
        if (chart.clientWidth === width) return;
        width = chart.clientWidth;
        clearTimeout(waiting);
        waiting = setTimeout(again, 100); // not at once: a new height would call the observer again
      }).observe(chart);
    }).catch((error) => fail(chart, error));
  }
})();

"use strict";
// What is shown, and what its user can do. Texts go in as text, never as markup: file names are anybody's.
(() => {
  const at = (id) => document.getElementById(id);
  const TITLES = { accuracy: "accuracy", balanced_accuracy: "balanced accuracy", macro_f1: "macro-F1",
    auroc: "AUROC, one class against the rest", quadratic_kappa: "quadratic-weighted kappa" };
  const SHARES = ["accuracy", "balanced_accuracy", "macro_f1"]; // in per cent, as metrics.py has it
  const named = (name) => name.replaceAll("_", " ");
  const state = { file: null, answer: null, pictures: [], asked: 0, explained: 0, methods: {}, classes: [] };

  function element(tag, text, children = []) {
    const made = document.createElement(tag);
    if (text) made.textContent = text;
    made.append(...children);
    return made;
  }

  function say(text) { at("status").textContent = text; }

  function complain(error) {
    say("");
    at("error").textContent = error ? error.message : "";
    at("error").hidden = !error;
  }

  async function start() {
    at("kept").textContent = window.backend.kept;
    try {
      showModel(await window.backend.describe());
    } catch (error) {
      at("about").textContent = "";
      at("admission").hidden = error.status !== 401;
      complain(error);
      if (error.status === 401) at("token").focus();
    }
  }

  function showModel(model) {
    const { origin, inference } = model.description;
    const class_names = model.description.severity ?? model.description.class_names;
    state.classes = class_names;
    complain(null);
    at("admission").hidden = true;
    at("about").textContent =
      `Model ${origin.model} of the run ${origin.run}, ${named(origin.protocol)} split, mriscope ${origin.mriscope}. ` +
      `Classes: ${class_names.map(named).join(", ")}.`;
    state.methods = model.methods;
    at("method").replaceChildren(...Object.entries(model.methods).map(([name, title]) => new Option(title, name)));
    const predicted = new Option("the predicted one", "");
    at("class").replaceChildren(predicted, ...class_names.map((name) => new Option(named(name), name)));
    at("statement").textContent = origin.statement;
    const rows = Object.entries(origin.unseen_subjects ?? {}).map(([name, one]) => metricRow(name, one, origin.by_chance?.[name]));
    at("metrics").tBodies[0].replaceChildren(...rows);
    at("metrics").hidden = !rows.length;
    at("notes").replaceChildren(...inference.notes.map((note) => element("li", `${note}.`)));
    at("card").textContent = model.card ?? "";
    at("card-shown").hidden = !model.card;
    at("asking").hidden = at("model").hidden = false;
  }

  function metricRow(name, one, chance) {
    const share = SHARES.includes(name);
    const number = (value) => (value === null || value === undefined ? "none" : share ? (100 * value).toFixed(1) : value.toFixed(3));
    const interval = one.reliable === false ? "not reliable here"
      : one.low === null ? "none" : `${number(one.low)} to ${number(one.high)}`;
    const head = element("th", TITLES[name] ?? named(name));
    head.scope = "row";
    const cell = (value) => element("td", `${number(value)}${share && Number.isFinite(value) ? "\u00a0%" : ""}`);
    return element("tr", "", [head, cell(one.value), cell(chance), element("td", interval)]);
  }

  async function open(file) {
    const turn = ++state.asked;
    complain(null);
    at("answer").hidden = true;
    say(`Reading ${file.name} …`);
    try {
      const found = await window.backend.predict(file);
      if (turn !== state.asked) return;
      Object.assign(state, found, { file });
      at("through").hidden = found.pictures.length < 2;
      at("index").max = found.pictures.length - 1;
      at("index").value = Math.floor((found.pictures.length - 1) / 2);
      at("answer").hidden = false;
      showTogether();
      showSlice();
      at("answer-title").focus();
    } catch (error) {
      if (turn === state.asked) complain(error);
    }
  }

  // The answer for all slices of a file, which is one volume.
  function showTogether() {
    const [one] = state.answer.subjects, { inference, not_pooled } = state.answer;
    at("together").hidden = !(one && state.pictures.length > 1) && !not_pooled;
    at("together-probabilities").hidden = !one;
    if (not_pooled) at("together-flag").textContent = at("together-title").textContent = "";
    if (at("together").hidden) return;
    at("together-title").textContent = "All slices together";
    if (!one) {
      at("together-told").textContent = not_pooled;
      return;
    }
    at("together-title").textContent = `${one.unit === "subject" ? "Subject" : "Volume"} ${one.name}: ${one.n_slices} slices together`;
    const share = one.share_out_of_distribution, outside = share === null ? "" : `${(100 * share).toFixed(0)} % of the slices are out of distribution`;
    at("together-flag").textContent = share === null ? "Whether the volume resembles those of training is not known for this model."
      : one.out_of_distribution ? `Out of distribution: ${outside}, so the answer means nothing. Was the volume prepared as those of training (skull, plane, spacing)?`
      : `Not out of distribution: ${outside}. That does not make the answer right.`;
    at("together-flag").classList.toggle("flagged", one.out_of_distribution !== false);
    at("together-probabilities").tBodies[0].replaceChildren(...shareRows(one));
    const conformal = inference.conformal_subjects;
    at("together-told").textContent = `Slices are pooled by the ${named(inference.pooling)}. ` + (conformal
      ? `The prediction set should hold the true class of ${(100 * conformal.coverage).toFixed(0)} % of subjects ` +
        `(calibrated on ${conformal.n_units} validation subjects).`
      : "There are no prediction sets of subjects, as the run has no validation subjects.");
  }

  function showSlice() {
    const index = Number(at("index").value), slice = state.answer.slices[index];
    const count = state.pictures.length, best = slice.probabilities[slice.class];
    const told = `${named(slice.class)}, with probability ${best.toFixed(3)}`;
    say(`${slice.path}: most probable is ${told}.`);
    at("index-told").textContent = `${index + 1} of ${count}`;
    at("index").setAttribute("aria-valuetext", `slice ${index + 1} of ${count}: ${told}`);
    at("original").src = at("under").src = state.pictures[index];
    at("original").alt = `The slice ${slice.path} in grey`;
    showFlag(slice);
    showProbabilities(slice);
    showMap();
  }

  function showFlag(slice) {
    const texts = new Map([
      [true, "Out of distribution: this image is unlike those that the model was trained on, so its answer means nothing."],
      [false, "Not out of distribution: the image resembles those of training. That does not make the answer right."],
      [null, "Whether the image resembles those of training is not known for this model."],
    ]);
    at("flag").textContent = texts.get(slice.out_of_distribution);
    at("flag").classList.toggle("flagged", slice.out_of_distribution !== false);
  }

  function showProbabilities(slice) {
    const conformal = state.answer.inference.conformal;
    at("probabilities").tBodies[0].replaceChildren(...shareRows(slice));
    at("set-told").textContent = conformal
      ? `The prediction set should hold the true class of ${(100 * conformal.coverage).toFixed(0)} % of slices ` +
        `(calibrated on ${conformal.n_units} validation ${conformal.unit}s).`
      : "This model has no prediction sets.";
  }

  function shareRows({ probabilities, prediction_set: inside }) {
    return state.classes.map((name) => {
      const share = probabilities[name];
      const head = element("th", named(name)), fill = element("span"), bar = element("div", "", [fill]);
      head.scope = "row";
      fill.style.width = `${100 * share}%`;
      bar.className = "bar";
      const number = element("span", share.toFixed(3)), cell = element("div", "", [number, bar]);
      number.className = "number";
      cell.className = "share";
      const member = inside === null ? "not known" : inside.includes(name) ? "yes" : "no";
      return element("tr", "", [head, element("td", "", [cell]), element("td", member)]);
    });
  }

  async function showMap() {
    const turn = ++state.explained, method = at("method").value;
    at("controls").hidden = !method;
    at("map").removeAttribute("src");
    if (!method) {
      at("map-told").textContent = "This model gives no maps.";
      return;
    }
    at("map-told").textContent = "The map is being computed.";
    try {
      const index = Number(at("index").value);
      const found = await window.backend.explain(state.file, index, method, at("class").value);
      if (turn !== state.explained) return;
      if (found.empty === null) at("map").src = found.overlay;
      at("map").alt = `${found.title} for the class ${named(found.class)}, in colours`;
      at("map-told").textContent = `${found.title} for ${named(found.class)}; bright is most evidence for it, dark none.` +
        (found.empty === null ? "" : ` There is no map: ${found.empty}.`);
    } catch (error) {
      if (turn === state.explained) at("map-told").textContent = error.message;
    }
  }

  function showStrength() { at("map").style.opacity = at("strength").value / 100; }

  function addExamples() {
    for (const [name, content] of Object.entries(window.EXAMPLES)) {
      const button = element("button", named(name.split(".")[0].replace("-", " ")));
      button.type = "button";
      button.addEventListener("click", () => {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        open(new File([bytes], name));
      });
      at("examples").append(button);
    }
  }

  let pause = 0;
  at("index").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(showSlice, 60);
  });
  at("method").addEventListener("change", showMap);
  at("class").addEventListener("change", showMap);
  at("strength").addEventListener("input", showStrength);
  at("file").addEventListener("change", () => {
    if (at("file").files.length) open(at("file").files[0]);
  });
  at("admission").addEventListener("submit", (event) => {
    event.preventDefault();
    window.backend.admit(at("token").value);
    start();
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      at("drop").classList.toggle("over", name === "dragover");
      if (name === "drop" && event.dataTransfer.files.length && !at("asking").hidden) open(event.dataTransfer.files[0]);
    });
  }
  addExamples();
  showStrength();
  start();
})();

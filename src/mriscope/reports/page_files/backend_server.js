"use strict";
// Asks the server that this page comes from.
window.backend = (() => {
  let token = "";

  async function ask(path, body) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    let response;
    try {
      response = await fetch(path, { method: body ? "POST" : "GET", body, headers });
    } catch {
      throw new Error("the server does not answer; is it still running?");
    }
    if (response.ok) return response.json();
    const problem = await response.json().catch(() => ({ detail: `the server answered ${response.status}` }));
    throw Object.assign(new Error(problem.detail), { status: response.status });
  }

  function form(file) {
    const sent = new FormData();
    sent.append("file", file, file.name);
    return sent;
  }

  const shown = (picture) => `data:image/png;base64,${picture}`;

  return {
    kept: "The file goes to the server of this page, which keeps it in memory until it has answered.",
    admit(given) { token = given; },
    describe: () => ask("api/v1/model"),
    async predict(file) {
      const { pictures, ...answer } = await ask("api/v1/predict?pictures=true", form(file));
      return { answer, pictures: pictures.map(shown) };
    },
    async explain(file, index, method, chosen) {
      const query = new URLSearchParams({ methods: method, slice: index, alpha: 1 });
      if (chosen) query.set("class", chosen);
      const [map] = (await ask(`api/v1/explain?${query}`, form(file))).maps;
      return { overlay: shown(map.overlay), empty: map.empty, title: map.title, class: map.class };
    },
  };
})();

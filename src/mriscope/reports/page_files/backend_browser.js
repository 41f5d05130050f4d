"use strict";
// Computes in the browser itself, with the graph in model.js and ONNX Runtime; nothing is sent anywhere.
window.backend = (() => {
  const { description, card, methods, colours } = window.MODEL, { size, stretch, class_names: names } = description;
  const AT_ONCE = 16;
  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const palette = bytesOf(colours);
  let opening = null;

  async function unpacked(text) {
    const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function open() {
    const { wasm, glue } = window.RUNTIME, { ort } = window;
    ort.env.wasm.numThreads = 1;  // more need headers that only some hosts send
    ort.env.wasm.wasmBinary = await unpacked(wasm);
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([await unpacked(glue)], { type: "text/javascript" })) };
    window.RUNTIME = null;
    return ort.InferenceSession.create(await unpacked(window.MODEL.graph));
  }

  async function run(images) {
    const input = new Uint8Array(images.length * size * size);
    images.forEach((image, at) => input.set(image, at * size * size));
    opening ??= open();
    const session = await opening;
    return session.run({ images: new window.ort.Tensor("uint8", input, [images.length, size, size]) });
  }

  async function read(file) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    try {
      const found = (await window.volumes.slices(bytes, window.volumes.PLANES.indexOf(description.plane))) ?? [{ ...(await window.decode.picture(bytes)), name: "" }];
      return found.map((one) => ({ image: window.decode.fit(one, size, stretch), path: file.name + one.name }));
    } catch (error) {
      throw new Error(`${file.name} ${error instanceof RangeError ? "is damaged or cut short" : error.message}`);
    }
  }

  function answerOf(path, probabilities, distance, conformal = description.inference.conformal) {
    const { distance: threshold } = description.inference, best = probabilities.indexOf(Math.max(...probabilities));
    const order = (description.severity ?? names).map((name) => names.indexOf(name));
    const inside = order.filter((at) =>
      at === best || conformal?.threshold === null || 1 - probabilities[at] <= conformal?.threshold);
    return {
      path,
      class: names[best],
      probabilities: Object.fromEntries(order.map((at) => [names[at], probabilities[at]])),
      prediction_set: conformal ? inside.map((at) => names[at]) : null,
      out_of_distribution: threshold ? !(distance <= threshold.value) : null,
      distance: threshold ? distance : null,
    };
  }

  // As mriscope.evaluation.pooling: the mean of what each slice says, brought back to the sum of 1.
  function pooled(slices) {
    const { pooling } = description.inference, least = 2 ** -23;
    const said = slices.map(({ probabilities }) => {
      const shares = names.map((name) => probabilities[name]), best = shares.indexOf(Math.max(...shares));
      return shares.map((share, at) =>
        pooling === "majority" ? Number(at === best) : pooling === "mean_logit" ? Math.log(Math.max(share, least)) : share);
    });
    let mean = names.map((_, at) => said.reduce((sum, one) => sum + one[at], 0) / said.length);
    if (pooling === "mean_logit") mean = mean.map((value) => Math.exp(value - Math.max(...mean)));
    const total = mean.reduce((sum, value) => sum + value, 0);
    return mean.map((value) => value / total);
  }

  // One answer for all slices of a volume; whose it is, a browser is not told.
  function together(name, slices) {
    if (slices.length < 2 || description.slices !== "all") return [];
    const { conformal_subjects: conformal, distance: threshold } = description.inference;
    const { distance: _, ...one } = answerOf(name, pooled(slices), null, conformal);
    const share = threshold ? slices.filter((slice) => slice.out_of_distribution).length / slices.length : null;
    return [{ ...one, name, unit: "volume", n_slices: slices.length, share_out_of_distribution: share,
      out_of_distribution: threshold ? share > 1 - threshold.level : null }];
  }

  function draw(colour) {
    const canvas = document.createElement("canvas"), pixels = new ImageData(size, size);
    canvas.width = canvas.height = size;
    for (let at = 0; at < size * size; at++) pixels.data.set([...colour(at), 255], 4 * at);
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas.toDataURL();
  }

  function stretched(values) {
    const low = values.reduce((least, value) => Math.min(least, value), Infinity);
    const high = values.reduce((most, value) => Math.max(most, value), -Infinity);
    return high > low ? values.map((value) => (value - low) / (high - low)) : values.map(() => 0);
  }

  // Bilinear, as torch does without aligned corners.
  function enlarged(values, height, width) {
    const found = new Float32Array(size * size);
    const place = (at, length) => {
      const exact = Math.max((at + 0.5) * (length / size) - 0.5, 0), low = Math.min(Math.floor(exact), length - 1);
      return [low, Math.min(low + 1, length - 1), exact - low];
    };
    for (let y = 0; y < size; y++) {
      const [top, bottom, down] = place(y, height);
      for (let x = 0; x < size; x++) {
        const [left, right, across] = place(x, width);
        const row = (at) => values[at * width + left] * (1 - across) + values[at * width + right] * across;
        found[y * size + x] = row(top) * (1 - down) + row(bottom) * down;
      }
    }
    return found;
  }

  function emptyBecause(values) {
    const most = values.reduce((found, value) => Math.max(found, value), -Infinity);
    if (!(most > 0)) return "no place is evidence for the class";
    return values.every((value) => value === values[0]) ? "every place is evidence for the class alike" : null;
  }

  return {
    kept: "The file stays in this browser; nothing is sent anywhere.",
    async describe() {
      opening ??= open();
      await opening;
      return { description, card, methods };
    },
    async predict(file) {
      const read_ = await read(file), slices = [];
      for (let start = 0; start < read_.length; start += AT_ONCE) {
        const some = read_.slice(start, start + AT_ONCE);
        const { probabilities, distances } = await run(some.map((one) => one.image));
        some.forEach(({ path }, at) => {
          const own = Array.from(probabilities.data.subarray(at * names.length, (at + 1) * names.length));
          slices.push(answerOf(path, own, distances.data[at]));
        });
      }
      const pictures = read_.map(({ image }) => draw((at) => [image[at], image[at], image[at]]));
      const subjects = together(file.name, slices), not_pooled = slices.length > 1 && !subjects.length
        ? `There is no answer for the volume: the model was trained on chosen slices (${description.slices}), which this page does not choose; use mriscope predict.` : "";
      return { answer: { ...description, slices, subjects, not_pooled }, pictures, images: read_.map((one) => one.image) };
    },
    async explain(file, index, method, chosen) {
      const { image } = (await read(file))[index], found = await run([image]);
      const explained = chosen ? names.indexOf(chosen) : found.probabilities.data.indexOf(Math.max(...found.probabilities.data));
      const [, , height, width] = found[method].dims, place = explained * height * width;
      const raw = found[method].data.slice(place, place + height * width);
      const heat = stretched(enlarged(stretched(raw.map((value) => Math.max(value, 0))), height, width));
      const overlay = draw((at) => palette.subarray(3 * Math.min(255, Math.trunc(heat[at] * 256)), 3 * Math.min(255, Math.trunc(heat[at] * 256)) + 3));
      return { overlay, heat, empty: emptyBecause(raw), title: methods[method], class: names[explained] };
    },
  };
})();

"use strict";
// NIfTI volumes and DICOM slices: from bytes to grey slices, as mriscope.data.volumes does it.
window.volumes = (() => {
  const PLANES = ["sagittal", "coronal", "axial"], LETTERS = "xyz", MOST_VOXELS = 2 ** 27;
  const { fround } = Math;
  const norm = (vector) => Math.hypot(...vector);
  const cross = ([a, b, c], [d, e, f]) => [b * f - c * e, c * d - a * f, a * e - b * d];

  function isNifti(bytes) {
    if (bytes.length < 4) return false;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    return [348, 540].some((size) => view.getInt32(0, true) === size || view.getInt32(0) === size);
  }

  function isDicom(bytes) { return String.fromCharCode(...bytes.subarray(128, 132)) === "DICM"; }

  async function unpack(bytes) {
    try {
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      return new Uint8Array(await new Response(stream).arrayBuffer());
    } catch {
      throw new Error("is a damaged gzip file; copy or download it again");
    }
  }

  const TYPES = { 2: ["Uint8", 1], 4: ["Int16", 2], 8: ["Int32", 4], 16: ["Float32", 4], 64: ["Float64", 8],
    256: ["Int8", 1], 512: ["Uint16", 2], 768: ["Uint32", 4] };

  function readNifti(bytes) {
    if (bytes.length < 352) throw new Error("is cut short: it holds no whole NIfTI header");
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const little = view.getInt32(0, true) === 348;
    if (!little && view.getInt32(0) !== 348) throw new Error("is NIfTI-2; convert it to NIfTI-1");
    if (view.getUint8(344) !== 0x6e || view.getUint8(345) !== 0x2b) throw new Error("is no NIfTI file of one part (n+1)");
    const short = (at) => view.getInt16(at, little), float = (at) => view.getFloat32(at, little);
    const sides = Array.from({ length: Math.max(0, Math.min(7, short(40))) }, (_, axis) => short(42 + 2 * axis));
    while (sides.length > 3 && sides.at(-1) === 1) sides.pop();
    const count = sides.reduce((product, side) => product * side, 1);
    if (sides.length !== 3 || Math.min(...sides) < 1 || count > MOST_VOXELS)
      throw new Error(`has dimensions ${sides.join(" × ")}; expected one volume of three`);
    if (!TYPES[short(70)]) throw new Error("holds voxels that are no real numbers");
    const [type, width] = TYPES[short(70)], offset = float(108);
    if (!(offset >= 352) || offset + count * width > bytes.length)
      throw new Error("is cut short: its header tells of more voxels than it holds");
    const data = new Float32Array(count), read = view[`get${type}`].bind(view);
    for (let at = 0; at < count; at++) data[at] = read(offset + at * width, little);
    const slope = float(112), intercept = float(116);
    if (Number.isFinite(slope) && slope !== 0 && (slope !== 1 || intercept !== 0))
      for (let at = 0; at < count; at++) data[at] = fround(fround(data[at] * slope) + intercept);
    return { data, shape: sides, columns: niftiColumns(short, float), limits: null };
  }

  // The directions of the three axes of voxels, in mm to the right, anterior and superior.
  function niftiColumns(short, float) {
    const sides = [80, 84, 88].map(float);
    if (short(254) > 0) return [0, 1, 2].map((axis) => [280, 296, 312].map((row) => float(row + 4 * axis)));
    if (short(252) <= 0) return [[-sides[0], 0, 0], [0, sides[1], 0], [0, 0, sides[2]]];
    const [b, c, d] = [256, 260, 264].map(float), a = Math.sqrt(Math.max(0, 1 - b * b - c * c - d * d));
    const turned = [
      [a * a + b * b - c * c - d * d, 2 * (b * c + a * d), 2 * (b * d - a * c)],
      [2 * (b * c - a * d), a * a + c * c - b * b - d * d, 2 * (c * d + a * b)],
      [2 * (b * d + a * c), 2 * (c * d - a * b), a * a + d * d - b * b - c * c],
    ];
    sides[2] *= float(76) < 0 ? -1 : 1;
    return turned.map((column, axis) => column.map((value) => value * sides[axis]));
  }

  const LONG = new Set(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]);
  const WITHOUT_END = 0xffffffff;

  // The elements of a data set by tag, as [first byte, length]; those within sequences are passed over.
  function elements(view, at, end, explicit, found) {
    while (at + 8 <= end) {
      const group = view.getUint16(at, true), tag = group * 0x10000 + view.getUint16(at + 2, true);
      if (tag === 0xfffee00d || tag === 0xfffee0dd) return at + 8;
      const kind = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5));
      const told = explicit && group !== 0xfffe, long = told && LONG.has(kind);
      const length = told && !long ? view.getUint16(at + 6, true) : view.getUint32(at + (long ? 8 : 4), true);
      at += long ? 12 : 8;
      if (length === WITHOUT_END) at = elements(view, at, end, explicit && kind !== "UN", null);
      else {
        if (found) found.set(tag, [at, length]);
        if (at + length > end) throw new Error("is a damaged DICOM file (cut short)");
        at += length;
      }
    }
    return at;
  }

  function readDicom(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), found = new Map();
    const text = (tag) => {
      const [at, length] = found.get(tag) ?? [0, 0];
      return String.fromCharCode(...bytes.subarray(at, at + length)).replace(/[\0 ]+$/, "");
    };
    const numbers = (tag) => (text(tag) ? text(tag).split("\\").map(Number) : []);
    const number = (tag, otherwise) => (found.has(tag) ? view.getUint16(found.get(tag)[0], true) : otherwise);
    let begin = 132;
    while (begin + 8 <= bytes.length && view.getUint16(begin, true) === 2) {
      const kind = String.fromCharCode(bytes[begin + 4], bytes[begin + 5]), long = LONG.has(kind);
      const length = long ? view.getUint32(begin + 8, true) : view.getUint16(begin + 6, true);
      found.set(0x20000 + view.getUint16(begin + 2, true), [begin + (long ? 12 : 8), length]);
      begin += (long ? 12 : 8) + length;
    }
    const syntax = text(0x20010), explicit = syntax === "1.2.840.10008.1.2.1";
    if (!explicit && syntax !== "1.2.840.10008.1.2")
      throw new Error("has pixels in a form that this page does not read; convert it to explicit little endian (gdcmconv --raw)");
    elements(view, begin, bytes.length, explicit, found);
    const rows = number(0x280010, 0), columns = number(0x280011, 0), bits = number(0x280100, 0), count = rows * columns;
    const colours = text(0x280004);
    if (number(0x280002, 1) !== 1 || !["MONOCHROME1", "MONOCHROME2"].includes(colours)) throw new Error("is no grey image");
    if ((numbers(0x280008)[0] ?? 1) !== 1) throw new Error("holds several images; drop a file of one slice");
    const [pixels, length] = found.get(0x7fe00010) ?? [0, 0];
    if (!count || ![8, 16, 32].includes(bits) || length < (count * bits) / 8) throw new Error("holds no whole image");
    const directions = numbers(0x200037), spacing = numbers(0x280030);
    if (directions.length !== 6 || spacing.length !== 2 || numbers(0x200032).length !== 3)
      throw new Error("does not tell where it lies (ImagePositionPatient, ImageOrientationPatient, PixelSpacing)");
    const read = view[`get${number(0x280103, 0) ? "Int" : "Uint"}${bits}`].bind(view);
    const slope = numbers(0x281053)[0] || 1, intercept = numbers(0x281052)[0] || 0, inverted = colours === "MONOCHROME1";
    const data = new Float32Array(count);
    for (let at = 0; at < count; at++) {
      const value = fround(fround(read(pixels + (at * bits) / 8, true) * fround(slope)) + fround(intercept));
      data[at] = inverted ? -value : value;
    }
    const toRas = ([x, y, z]) => [-x, -y, z], along = toRas(directions.slice(0, 3)), down = toRas(directions.slice(3));
    const thickness = numbers(0x180050)[0] || 1, across = cross(along, down);
    const scaled = (vector, factor) => vector.map((value) => value * factor);
    return {
      data,
      shape: [columns, rows, 1],
      columns: [scaled(along, spacing[1]), scaled(down, spacing[0]), scaled(across, thickness)],
      limits: windowOf(numbers(0x281050)[0], numbers(0x281051)[0], text(0x281056) || "LINEAR", inverted),
      plane: across.map(Math.abs).indexOf(Math.max(...across.map(Math.abs))),
    };
  }

  function windowOf(centre, width, how, inverted) {
    if (!(width >= 1) || !Number.isFinite(centre)) return null;
    const limits = how !== "LINEAR" ? [centre - width / 2, centre + width / 2]
      : [centre - 0.5 - (width - 1) / 2, width > 1 ? centre - 0.5 + (width - 1) / 2 : centre];
    return inverted ? [-limits[1], -limits[0]] : limits;
  }

  // Slices of one plane, turned and flipped to the nearest axes (right, anterior, superior).
  function cut(volume, normal = volume.plane ?? 2) {
    const spacing = volume.columns.map(norm), taken = new Set();
    if (spacing.some((side) => !(side >= 0.02 && side <= 50))) throw new Error("has voxels of no possible size in mm");
    const size = [], step = [], start = [], side = [];
    volume.columns.forEach((column, axis) => {
      const rated = column.map((value, out) => (taken.has(out) ? -1 : Math.abs(value) / spacing[axis]));
      const out = rated.indexOf(Math.max(...rated));
      const stride = volume.shape.slice(0, axis).reduce((product, length) => product * length, 1);
      taken.add(out);
      size[out] = volume.shape[axis];
      side[out] = spacing[axis];
      step[out] = column[out] < 0 ? -stride : stride;
      start[out] = column[out] < 0 ? stride * (volume.shape[axis] - 1) : 0;
    });
    const [rows, columns] = [2, 1, 0].filter((axis) => axis !== normal);
    const count = size[normal], height = size[rows], width = size[columns], stack = new Float32Array(count * height * width);
    let at = 0;
    for (let s = 0; s < count; s++)
      for (let r = height - 1; r >= 0; r--) {
        let from = start[0] + start[1] + start[2] + s * step[normal] + r * step[rows];
        for (let c = 0; c < width; c++, from += step[columns]) stack[at++] = volume.data[from];
      }
    const grey = toGrey(stack, [count, height, width], volume.limits), found = [];
    for (let s = 0; s < count; s++) {
      const image = grey.subarray(s * height * width, (s + 1) * height * width);
      if (image.some((value) => value !== image[0]))
        found.push({ ...square(image, height, width, side[rows], side[columns]), name: `#${LETTERS[normal]}${String(s).padStart(3, "0")}` });
    }
    if (!found.length) throw new Error("shows nothing: its slices hold one value throughout");
    return found;
  }

  function toGrey(values, shape, limits) {
    let least = Infinity;
    for (const value of values) if (Number.isFinite(value) && value < least) least = value;
    for (let at = 0; at < values.length; at++) if (!Number.isFinite(values[at])) values[at] = Number.isFinite(least) ? least : 0;
    let background = null;
    if (!limits) ({ limits, background } = greyLimits(values, shape));
    const [low, high] = limits, factor = fround(255 / Math.max(high - low, 1.1754943508222875e-38));
    const outside = background !== null && background > low, grey = new Uint8Array(values.length);
    for (let at = 0; at < values.length; at++) {
      const value = fround(fround(fround(values[at] - fround(low)) * factor) + 0.5);
      grey[at] = outside && values[at] === background ? 0 : Math.min(255, Math.max(0, value));
    }
    return grey;
  }

  function greyLimits(values, [count, height, width]) {
    const at = (s, r, c) => values[(s * height + r) * width + c], ends = (length) => [0, length - 1];
    const corners = ends(count).flatMap((s) => ends(height).flatMap((r) => ends(width).map((c) => at(s, r, c))));
    const background = corners.every((value) => value === corners[0]) ? corners[0] : null;
    const step = Math.ceil(Math.cbrt(values.length / 2e6)), sample = [];
    for (let s = 0; s < count; s += step)
      for (let r = 0; r < height; r += step)
        for (let c = 0; c < width; c += step) if (at(s, r, c) !== background) sample.push(at(s, r, c));
    const sorted = Float32Array.from(sample.length ? sample : values).sort();
    let low = percentile(sorted, 0.001);
    const high = percentile(sorted, 0.999);
    if (background !== null && background < low) low = background;
    return { limits: [low, high > low ? high : low + 1], background };
  }

  function percentile(sorted, share) {
    const place = (sorted.length - 1) * share, below = Math.floor(place), rest = place - below;
    const low = sorted[below], high = sorted[Math.min(below + 1, sorted.length - 1)], apart = fround(high - low);
    return rest < 0.5 ? low + apart * rest : high - apart * (1 - rest);
  }

  function square(grey, height, width, tall, wide) {
    const finer = Math.min(tall, wide);
    if (Math.max(tall, wide) > 20 * finer) throw new Error("has pixels too long to be made square");
    if (Math.max(tall, wide) <= 1.01 * finer) return { grey, height, width };
    const newHeight = Math.round((height * tall) / finer), newWidth = Math.round((width * wide) / finer);
    const between = interpolate(grey, height, width, newHeight, width, 1);
    return { grey: interpolate(between, width, newHeight, newWidth, width, 0), height: newHeight, width: newWidth };
  }

  // Linear between the centres of pixels: down a picture (vertical), else across it.
  function interpolate(grey, length, other, size, width, vertical) {
    if (length === size) return grey;
    const found = new Uint8Array(size * other);
    for (let at = 0; at < size; at++) {
      const place = Math.min(Math.max((at + 0.5) * (length / size) - 0.5, 0), length - 1), low = Math.floor(place);
      const share = fround(place - low), next = Math.min(low + 1, length - 1);
      for (let along = 0; along < other; along++) {
        const near = vertical ? grey[low * width + along] : grey[along * width + low];
        const far = vertical ? grey[next * width + along] : grey[along * width + next];
        const value = fround(fround(near + fround(share * (far - near))) + 0.5);
        found[vertical ? at * width + along : along * size + at] = value;
      }
    }
    return found;
  }

  // All slices of a file, or null where it is neither kind.
  async function slices(bytes, plane = 2) {
    if (isDicom(bytes)) return cut(readDicom(bytes));
    if (bytes[0] === 0x1f && bytes[1] === 0x8b) bytes = await unpack(bytes);
    else if (!isNifti(bytes)) return null;
    return cut(readNifti(bytes), plane);
  }

  return { slices, PLANES };
})();

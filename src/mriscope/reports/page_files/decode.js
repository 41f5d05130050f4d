"use strict";
// From the bytes of a picture to grey pixels, and from one size to another, as mriscope.data.decoding does it.
window.decode = (() => {
  const MOST_PIXELS = 16e6;

  function begins(bytes, ...values) { return values.every((value, at) => bytes[at] === value); }

  function refuse(bytes) {
    if (!bytes.length) return "is empty (0 bytes)";
    if (begins(bytes, 0x49, 0x49) || begins(bytes, 0x4d, 0x4d)) return "is a TIFF, which browsers do not read; save it as PNG";
    const known = begins(bytes, 0xff, 0xd8) || begins(bytes, 0x89, 0x50, 0x4e, 0x47) || begins(bytes, 0x42, 0x4d);
    if (!known) return "is no JPEG, PNG or BMP; expected a JPEG, PNG, BMP, NIfTI or DICOM file";
    if (begins(bytes, 0x89, 0x50) && bytes[24] === 16) return "has 16 bits, of which browsers keep 8; save it with 8 bits";
    return "";
  }

  // Grey pixels: luma as ITU-R BT.601 has it, in the whole numbers of Pillow.
  async function picture(bytes) {
    const reason = refuse(bytes);
    if (reason) throw new Error(reason);
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    const bitmap = await createImageBitmap(new Blob([bytes]), options).catch(() => {
      throw new Error("is damaged or cut short");
    });
    const { width, height } = bitmap;
    if (width * height > MOST_PIXELS) throw new Error(`has ${height}×${width} pixels; a slice has at most 16 million`);
    const drawn = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    drawn.fillRect(0, 0, width, height);
    drawn.drawImage(bitmap, 0, 0);
    const { data } = drawn.getImageData(0, 0, width, height), grey = new Uint8Array(width * height);
    for (let at = 0; at < grey.length; at++)
      grey[at] = (data[4 * at] * 19595 + data[4 * at + 1] * 38470 + data[4 * at + 2] * 7471 + 0x8000) >> 16;
    return { grey, width, height };
  }

  // The share of each pixel of a row in each of the resized row: lists of [pixel, share].
  function weights(length, whole, size) {
    const left = Math.floor((whole - length) / 2), rows = [];
    for (let at = 0; at < size; at++) {
      const row = [];
      const add = (place, share) => {
        if (share > 0 && place >= left && place < left + length) row.push([place - left, share]);
      };
      if (size < whole) {
        const low = at * (whole / size), high = (at + 1) * (whole / size);
        for (let place = Math.floor(low); place < high; place++)
          add(place, (Math.min(place + 1, high) - Math.max(place, low)) * (size / whole));
      } else {
        const middle = Math.min(Math.max((at + 0.5) * (whole / size) - 0.5, 0), whole - 1), place = Math.floor(middle);
        add(place, 1 - (middle - place));
        add(place + 1, middle - place);
      }
      rows.push(row);
    }
    return rows;
  }

  // A square image: the aspect is kept on black, or both sides fill it.
  function fit({ grey, width, height }, size, stretch) {
    if (width === size && height === size) return grey;
    const longest = Math.max(width, height);
    const down = weights(height, stretch ? height : longest, size), across = weights(width, stretch ? width : longest, size);
    const between = new Float64Array(size * width), found = new Uint8Array(size * size);
    down.forEach((row, at) => row.forEach(([place, share]) => {
      for (let x = 0; x < width; x++) between[at * width + x] += share * grey[place * width + x];
    }));
    for (let y = 0; y < size; y++)
      across.forEach((row, x) => {
        let sum = 0;
        for (const [place, share] of row) sum += share * between[y * width + place];
        found[y * size + x] = Math.floor(sum + 0.5 + 1e-6);
      });
    return found;
  }

  return { picture, fit, begins };
})();

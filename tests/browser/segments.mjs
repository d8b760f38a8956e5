// Reads segmentations of every type with dcmjs alone: node segments.mjs TASK.json SEEN.json, TASK: { files: {name: path} }.
// SEEN: for each file its type and frames, each with its segment, plane and pixels as numbers of one byte, base64.
import fs from 'node:fs';
import dcmjs from 'dcmjs';

const { BitArray, DicomMessage, DicomMetaDictionary } = dcmjs.data;
const RLE_LOSSLESS = '1.2.840.10008.1.2.5';

function one(value) {
  return Array.isArray(value) ? value[0] : value;
}

function many(value) {
  return Array.isArray(value) ? value : [value];
}

function pixels(dataset, syntax) {
  const parts = many(dataset.PixelData);
  if (syntax === RLE_LOSSLESS) return dcmjs.utilities.compression.decode(parts, dataset.Rows, dataset.Columns);
  const bytes = new Uint8Array(parts[0]);
  return dataset.BitsAllocated === 1 ? BitArray.unpack(bytes) : bytes;
}

function read(file) {
  const bytes = fs.readFileSync(file);
  const { dict, meta } = DicomMessage.readFile(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  const dataset = DicomMetaDictionary.naturalizeDataset(dict);
  const all = pixels(dataset, DicomMetaDictionary.naturalizeDataset(meta).TransferSyntaxUID);
  const size = dataset.Rows * dataset.Columns;
  const shared = one(dataset.SharedFunctionalGroupsSequence);
  const frames = many(dataset.PerFrameFunctionalGroupsSequence).map((group, n) => {
    const find = name => one(group[name] ?? shared[name]);
    return {
      segment: Number(find('SegmentIdentificationSequence')?.ReferencedSegmentNumber ?? 0),
      position: find('PlanePositionSequence').ImagePositionPatient.map(Number),
      orientation: find('PlaneOrientationSequence').ImageOrientationPatient.map(Number),
      spacing: find('PixelMeasuresSequence').PixelSpacing.map(Number),
      pixels: Buffer.from(Uint8Array.from(all.slice(n * size, (n + 1) * size))).toString('base64'),
    };
  });
  return { type: dataset.SegmentationType, rows: dataset.Rows, columns: dataset.Columns, frames };
}

const task = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const seen = Object.fromEntries(Object.entries(task.files).map(([name, file]) => [name, read(file)]));
fs.writeFileSync(process.argv[3], JSON.stringify(seen));

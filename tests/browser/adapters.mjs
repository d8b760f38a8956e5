// Reads a segmentation with @cornerstonejs/adapters and the numbers of a report with dcmjs:
// node adapters.mjs TASK.json SEEN.json, TASK: { sources: [paths in slice order], segmentation, report }.
import fs from 'node:fs';

// The adapters are made for browsers; all they want of one are these names.
globalThis.window = globalThis;
globalThis.self = globalThis;
globalThis.document = {
  addEventListener() {},
  body: {},
  createElement: () => ({ addEventListener() {}, getContext: () => null, style: {} }),
  documentElement: { style: {} },
};
globalThis.HTMLElement ??= class {};
globalThis.HTMLCanvasElement ??= class {};
globalThis.ImageData ??= class {};

const { data } = (await import('dcmjs')).default;
const { metaData } = await import('@cornerstonejs/core');
const { adaptersSEG } = await import('@cornerstonejs/adapters');

function read(file) {
  const bytes = fs.readFileSync(file);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const { dict } = data.DicomMessage.readFile(buffer);
  return { buffer, dataset: data.DicomMetaDictionary.naturalizeDataset(dict) };
}

const task = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const images = new Map(task.sources.map((file, n) => [`file:${n}`, read(file).dataset]));
const provider = { get: (type, imageId) => describe(type, images.get(imageId)) };
metaData.addProvider((type, imageId) => describe(type, images.get(imageId)), 1000);

function describe(type, image) {
  if (!image) return undefined;
  const orientation = image.ImageOrientationPatient.map(Number);
  const [rowPixelSpacing, columnPixelSpacing] = image.PixelSpacing.map(Number);
  switch (type) {
    case 'instance':
      return image;
    case 'generalImageModule':
      return { sopInstanceUID: image.SOPInstanceUID };
    case 'generalSeriesModule':
      return { seriesInstanceUID: image.SeriesInstanceUID, modality: image.Modality };
    case 'imagePlaneModule':
      return {
        frameOfReferenceUID: image.FrameOfReferenceUID,
        rows: image.Rows,
        columns: image.Columns,
        imageOrientationPatient: orientation,
        rowCosines: orientation.slice(0, 3),
        columnCosines: orientation.slice(3),
        imagePositionPatient: image.ImagePositionPatient.map(Number),
        pixelSpacing: [rowPixelSpacing, columnPixelSpacing],
        rowPixelSpacing,
        columnPixelSpacing,
      };
    case 'imagePixelModule':
      return {
        bitsAllocated: image.BitsAllocated,
        bitsStored: image.BitsStored,
        highBit: image.HighBit,
        photometricInterpretation: image.PhotometricInterpretation,
        pixelRepresentation: image.PixelRepresentation,
        samplesPerPixel: image.SamplesPerPixel,
      };
    default:
      return undefined;
  }
}

async function voxels() {
  const { buffer } = read(task.segmentation);
  const made = await adaptersSEG.Cornerstone3D.Segmentation.createFromDICOMSegBuffer([...images.keys()], buffer, {
    metadataProvider: provider,
  });
  return made.labelMapImages.map(group => (Array.isArray(group) ? group : [group])).map(group =>
    group.map(image => Buffer.from(image.getPixelData()).toString('base64'))
  );
}

function many(value) {
  return value === undefined ? [] : Array.isArray(value) ? value : [value];
}

function named(item) {
  return many(item.ConceptNameCodeSequence)[0]?.CodeValue;
}

/** Numbers of every measurement group by Tracking UID: code value, number, unit. */
function numbers(container, found = {}) {
  const children = many(container.ContentSequence);
  if (named(container) === '125007') {
    const tracking = children.find(child => named(child) === '112040').UID;
    found[tracking] = children
      .filter(child => child.ValueType === 'NUM')
      .map(child => {
        const measured = many(child.MeasuredValueSequence)[0];
        const unit = many(measured.MeasurementUnitsCodeSequence)[0].CodeValue;
        return [named(child), Number(many(measured.NumericValue)[0]), unit];
      });
  }
  children.forEach(child => numbers(child, found));
  return found;
}

const seen = { voxels: await voxels(), numbers: numbers(read(task.report).dataset) };
fs.writeFileSync(process.argv[3], JSON.stringify(seen));
process.exit(0);

// OHIF's ready-made files and a DICOMweb server behind one origin, on loopback.
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';

const TYPES = {
  '.css': 'text/css',
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.woff2': 'font/woff2',
};

const SOURCE = {
  namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
  sourceName: 'here',
  configuration: {
    friendlyName: 'here',
    name: 'here',
    qidoRoot: '/dicom-web',
    wadoRoot: '/dicom-web',
    wadoUriRoot: '/dicom-web',
    imageRendering: 'wadors',
    thumbnailRendering: 'wadors',
    enableStudyLazyLoad: true,
    qidoSupportsIncludeField: false,
    supportsFuzzyMatching: false,
    supportsWildcard: true,
    bulkDataURI: { enabled: true },
    omitQuotationForMultipartRequest: true,
  },
};

const CONFIG = {
  routerBasename: null,
  showStudyList: false,
  extensions: [],
  modes: [],
  customizationService: {},
  maxNumberOfWebWorkers: 2,
  showCPUFallbackMessage: false,
  investigationalUseDialog: { option: 'never' },
  defaultDataSourceName: 'here',
  dataSources: [SOURCE],
};

/** Serve the files below `dist`; what begins with /dicom-web goes to that port. */
export function serve(dist, dicomwebPort) {
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    if (pathname.startsWith('/dicom-web')) return forward(request, response, dicomwebPort);
    if (pathname === '/app-config.js') {
      response.writeHead(200, { 'content-type': TYPES['.js'] });
      return response.end(`window.config = ${JSON.stringify(CONFIG)};`);
    }
    const wanted = path.join(dist, path.normalize(pathname));
    const isFile = wanted.startsWith(dist) && fs.existsSync(wanted) && fs.statSync(wanted).isFile();
    const file = isFile ? wanted : path.join(dist, 'index.html');
    response.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream' });
    return fs.createReadStream(file).pipe(response);
  });
  return new Promise(resolve => server.listen(0, '127.0.0.1', () => resolve(server)));
}

function forward(request, response, port) {
  const { url, method, headers } = request;
  const onward = http.request({ host: '127.0.0.1', port, path: url, method, headers }, answer => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  onward.on('error', () => response.writeHead(502).end());
  request.pipe(onward);
}

// What Grafana's own code (@grafana/data) makes of answers of Prometheus: transformations, overrides, units, thresholds,
// words and links. Reads [{panel, answers: {REF: [{metric, value}]}}] from stdin, writes the columns of each panel.
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';

const require = createRequire(`${process.argv[2]}/`);
const { JSDOM } = require('jsdom');
const { window } = new JSDOM('<!doctype html>', { url: 'http://localhost/' });
for (const name of ['document', 'navigator', 'HTMLElement', 'Element', 'Node', 'localStorage', 'DOMParser']) {
  Object.defineProperty(globalThis, name, { value: window[name], configurable: true });
}
globalThis.window = window;
const grafana = require('@grafana/data');
const { FieldType } = grafana;
const theme = grafana.createTheme();
// By id: some are there under two names.
const transformers = new Map(Object.values(grafana.standardTransformers).map((each) => [each.id, each]));
grafana.standardTransformersRegistry.setInit(() => [...transformers].map(
  ([id, transformation]) => ({ id, transformation: async () => transformation, name: id })));
// The options of fields that the dashboards set; Grafana has editors for them as well.
const OPTIONS = ['unit', 'decimals', 'min', 'max', 'noValue', 'mappings', 'thresholds', 'color', 'links',
  'custom.cellOptions', 'custom.width', 'custom.lineStyle', 'custom.fillOpacity'];
const registry = new grafana.FieldConfigOptionsRegistry(() => OPTIONS.map((path) => {
  const isCustom = path.startsWith('custom.');
  return { id: path, path: path.replace('custom.', ''), isCustom, name: path, override: () => null, editor: () => null,
    process: grafana.identityOverrideProcessor, shouldApply: () => true };
}));

// As Grafana's data source for Prometheus lays out a table: time, labels, and the value.
function frameOf(ref, result, alone) {
  const labels = [...new Set(result.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const column = (name, type, values) => ({ name, type, config: {}, values });
  return grafana.toDataFrame({ refId: ref, fields: [
    column('Time', FieldType.time, result.map(({ value }) => value[0] * 1000)),
    ...labels.map((label) => column(label, FieldType.string, result.map(({ metric }) => metric[label] ?? ''))),
    column(alone ? 'Value' : `Value #${ref}`, FieldType.number, result.map(({ value }) => Number(value[1]))),
  ] });
}

function transformed(transformations, frames) {
  return new Promise((give) => grafana.transformDataFrame(transformations, frames).subscribe(give));
}

function cell(field, row) {
  const shown = field.display(field.values[row]);
  const links = field.getLinks?.({ valueRowIndex: row }) ?? [];
  return { text: grafana.formattedValueToString(shown), colour: shown.color ?? null, links: links.map(({ href }) => href) };
}

async function shown({ panel, answers }) {
  const refs = Object.keys(answers);
  const frames = refs.map((ref) => frameOf(ref, answers[ref], refs.length === 1));
  const data = await transformed(panel.transformations ?? [], frames);
  const drawn = grafana.applyFieldOverrides({ data, fieldConfig: panel.fieldConfig, theme, timeZone: 'utc',
    fieldConfigRegistry: registry, replaceVariables: (words, scoped) => interpolated(words, scoped) });
  return { title: panel.title, frames: drawn.length, columns: drawn.flatMap((frame) => frame.fields.map((field) => ({
    name: grafana.getFieldDisplayName(field, frame, drawn), cells: field.values.map((_, row) => cell(field, row)),
    width: field.config.custom?.width ?? null, cell: field.config.custom?.cellOptions?.type ?? null }))) };
}

// What belongs to the row is put in; the variables of the dashboard stay as they are.
function interpolated(words, scoped) {
  const { frame, field: own, rowIndex } = scoped?.__dataContext?.value ?? {};
  if (frame === undefined) return words;
  return words.replace(/\$\{__data\.fields\.(\w+)(?::percentencode)?\}|\$\{__value\.text\}/g, (whole, name) => {
    if (name === undefined) return own.display(own.values[rowIndex]).text;
    const field = frame.fields.find((each) => grafana.getFieldDisplayName(each, frame) === name);
    return field === undefined ? whole : encodeURIComponent(field.values[rowIndex]);
  });
}

process.stdout.write(JSON.stringify(await Promise.all(JSON.parse(await text(process.stdin)).map(shown))));

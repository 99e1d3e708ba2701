import { defineConfig } from 'sluice'

/** The gallery as one project: `cd examples && npx sluice dev`. */
export default defineConfig({ definitions: ['[0-9]*.ts', '[0-9]*.yaml'] })

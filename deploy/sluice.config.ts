import { defineConfig } from 'sluice'

/** Workflows lie in `workflows/`, in TypeScript or YAML; a change is taken up while Sluice runs. */
export default defineConfig({ definitions: ['workflows/*.ts', 'workflows/*.yaml', 'workflows/*.yml'], connections: {} })

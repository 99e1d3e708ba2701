import { defineConfig } from 'sluice'

export default defineConfig({
  definitions: ['workflows/*.ts', 'apps/*/workflows/*.ts'],
  connections: {
    /** Where pictures come from. `SLUICE_CONNECTION_WEB` replaces it as a whole, as the demo does for its own origin. */
    web: { kind: 'fetch', userAgent: 'sluice-images/0.1', perHost: 8, timeout: '60s', maxBytes: 20_971_520 },
  },
})

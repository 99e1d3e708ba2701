import { defineConfig } from 'sluice'

export default defineConfig({
  definitions: ['workflows/*.ts', 'apps/*/workflows/*.ts'],
  connections: {
    /**
     * Where pictures come from. `SLUICE_CONNECTION_WEB` replaces it as a whole, as the demo does for its own origin. It says
     * `sluice/<version>`; give a `contact` of yours (`https://...` or `mailto:...`) before you ask strangers.
     */
    web: { kind: 'fetch', timeout: '60s' },
    /** Who asks the sites of the availability monitor. Sites of your own network: name them in `allow`. */
    checks: { kind: 'fetch', timeout: '30s', maxBytes: 1_048_576, maxRedirects: 10 },
  },
  migrations: { stats: 'apps/stats/migrations', availability: 'apps/availability/migrations' },
})

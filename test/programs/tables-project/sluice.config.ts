import { defineConfig } from 'sluice'

export default defineConfig({ migrations: { shop: 'migrations' } })

# Every command sets itself up from a fresh clone: GNU make, git, npm and Node 20 or newer are enough. npm runs each
# script with the Node 24 of node_modules/.bin, which comes with the packages.

.DEFAULT_GOAL := help
.PHONY: help demo start stop test check build bench chaos services clean

installed := node_modules/.package-lock.json
run := npm run --silent

help:
	@echo 'make demo      run the image catalog to its end and print its sum (CATALOG=path, LIVE=1)'
	@echo 'make start     all processes on http://localhost:8000 (PORT=n); make stop ends them'
	@echo 'make test      every test, on the embedded PostgreSQL or SLUICE_TEST_DATABASE_URL'
	@echo 'make check     format, lint, types, dead code, layers'
	@echo 'make build     the package as it is published, in dist/'
	@echo 'make bench     the measurements of bench/'
	@echo 'make chaos     kill parts of Sluice at random moments and count again (COUNT=200, SEED=n, SERVER=postgres15)'
	@echo 'make services  fetch Apache Kafka, and say which servers there are here for tests (REQUIRE_SERVICES=1: fail without)'
	@echo 'make clean     stop, and remove state, builds and packages'

# Not `npm ci`: it refuses a lock file without the optional packages of other platforms, which a mirror may not have.
# Versions still come from the lock file, and it is not written.
$(installed): package-lock.json
	@echo 'Installing the npm packages' >&2
	@npm install --no-save --no-fund --no-audit --loglevel=error >/dev/null
	@touch $@

demo: $(installed)
	@$(run) demo

start: $(installed)
	@$(run) start

stop: $(installed)
	@$(run) stop

test: $(installed)
	@$(run) test

check: $(installed)
	@$(run) check

build: $(installed)
	@$(run) build

bench: $(installed)
	@$(run) bench

chaos: $(installed)
	@$(run) chaos -- --count $(or $(COUNT),20) $(if $(SEED),--seed $(SEED)) $(if $(SERVER),--server $(SERVER))

services: $(installed)
	@$(run) services

clean:
	@if [ -e $(installed) ] && [ -d .sluice ]; then $(run) stop; fi
	@rm -rf .sluice .services dist coverage node_modules apps/*/node_modules ui/node_modules

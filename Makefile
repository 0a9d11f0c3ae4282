.DEFAULT_GOAL := help
.SILENT:
.PHONY: help run shards stop psql cli test lint format bench lock clean

help: ## Show what there is
	awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

run: ## Install, migrate, and serve on PORT (8080) of HOST; DATABASE_URL=… for a database of your own
	.dev/run

shards: ## The same on a router with N shards (2), each a PostgreSQL of its own
	.dev/shards $(N)

stop: ## Stop the service and PostgreSQL; the data stays
	.dev/stop

psql: ## Open psql on the database of make run
	.dev/psql

cli: ## A command on the database of make run: make cli ARGS="keys list"; without ARGS, all there are
	.dev/cli $(ARGS)

test: ## Run all tests, or some: make test ARGS="tests/sql -k rollout"
	.dev/test $(ARGS)

lint: ## Check style and types
	.dev/lint

format: ## Mend style, then check
	.dev/lint --fix

bench: ## Print the measures
	.dev/bench $(ARGS)

lock: ## Renew the exact versions and hashes in requirements.txt, and Swagger UI where npm is
	.dev/lock

clean: ## Stop everything; delete the data (.local) and .venv
	.dev/clean

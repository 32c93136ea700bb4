# The one command list. `make` alone shows it.
STACK ?= local
FILE ?= stacks/Pulumi.$(STACK).yaml
SITE ?= local
NAME ?= all
PYTHON ?= python3
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
# Where a shell forbids it, every Python that is started compiles the SDKs anew: seconds for each preview.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup up rehearse stage down teardown validate cost preview comment compliance env test test-fast test-faults \
  check bench golden docs tools tools-status images site-status clean

help: ## Show the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(BIN)/.synced ## Python environment from uv.lock

# pip brings uv, uv brings exactly what the lock says. The stamp makes a second run do nothing.
$(BIN)/.synced: pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { echo "$(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	@$(BIN)/uv sync --frozen --all-extras --quiet
# What was written goes to the disk now: otherwise etcd, which waits for the disk, waits for all of it.
	@sync
	@touch $@

rehearse: setup ## Up and down again on simulated nodes: any stack or example, without its hardware
	@$(BIN)/python -m rehearsal rehearse --stack $(STACK) --site $(SITE)

up: setup ## Everything, up to a platform that has answered (STACK=local, or KUBECONFIG=… for your cluster)
	@$(BIN)/python -m rehearsal up --stack $(STACK) --site $(SITE) $(if $(FROM),--from '$(FROM)')

stage: setup ## Weights to S3, images to ECR, verified; then the burst is armed (STACK=…, FROM=FOLDER with weights)
	@$(BIN)/python -m rehearsal stage --stack $(STACK) --site $(SITE) $(if $(FROM),--from '$(FROM)')

validate: setup ## Every mistake in a stack file, in a second (STACK=… or FILE=…)
	@$(BIN)/python -m stacks.check $(FILE)

cost: setup ## What a stack costs, from its file alone (STACK=… or FILE=…, FORMAT=html, OUT=cost.html)
	@declared=$$(mktemp) && trap 'rm -f "$$declared"' EXIT && \
	  $(BIN)/python -m stacks.declared $(FILE) > "$$declared" && \
	  $(BIN)/python -m runtime.ops cost --state "$$declared" --title 'stack $(STACK)' \
	  $(if $(FORMAT),--format $(FORMAT)) $(if $(OUT),--out '$(OUT)')

preview: setup ## What `up` would change, judged by the policy packs
	@$(BIN)/python -m rehearsal preview --stack $(STACK) --site $(SITE)

comment: setup ## What reviewers read of a preview, as Markdown (OUT=comment.md; EVENTS=FILE of one that ran elsewhere)
	@$(BIN)/python -m $(if $(EVENTS),runtime.ops preview-comment --events '$(EVENTS)',rehearsal comment --site $(SITE)) \
	  --stack $(STACK) $(if $(OUT),--out '$(OUT)')

compliance: setup ## All policy rules on what a stack declares, without deploying: SARIF, a table (STATE=FILE)
	@$(BIN)/python -m policies.compliance --stack $(STACK) $(if $(STATE),--state '$(STATE)')

env: setup ## The line to source for plain Pulumi
	@$(BIN)/python -m rehearsal env --stack $(STACK) --site $(SITE)

down: setup ## Destroy the stack, stop the site, show that nothing is left
	@$(BIN)/python -m rehearsal down --stack $(STACK) --site $(SITE)

teardown: setup ## Take the stack down and prove that nothing is left (ARGS=--plan, --again, --delete-data)
	@$(BIN)/python -m rehearsal teardown --stack $(STACK) --site $(SITE) $(ARGS)

check: setup ## Lint, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/pyright

test-fast: setup check ## Checks and the fast tier, without network
	@$(BIN)/pytest -n auto --dist loadfile -m "not engine and not rehearsal and not faults"

# What is long comes last: one worker takes the rehearsals, the other what runs beside them (tests/conftest.py).
test: setup check tools ## All checks and every test tier; the first run builds the tools
	@$(BIN)/pytest -n 2 --dist loadfile

test-faults: setup tools ## Faults at random moments, counted (FAULT_RUNS=104, FAULT_SEED=1); hours
	@$(BIN)/pytest -m faults tests/faults tests/rehearsal/test_hybrid.py

bench: setup tools ## Benchmarks, as root on a quiet machine: hours (NAME=gateway runs one, QUICK=1 small runs)
	@$(BIN)/python -m benchmarks $(NAME) $(if $(QUICK),--quick)

golden: setup ## Write the golden previews of the committed stacks anew
	@$(BIN)/pytest tests/golden --update-golden -q

docs: setup ## Write the generated pages of docs/ anew
	@$(BIN)/python -m docs.generator

tools: setup ## All pinned tools, downloaded or built once into the cache
	@$(BIN)/python -m rehearsal.tools ensure

tools-status: setup ## Which tools are used, from where and why
	@$(BIN)/python -m rehearsal.tools status

images: setup ## Build our own images without a daemon, as root (PUSH=REGISTRY/PATH publishes them)
	@$(BIN)/python -m rehearsal.images $(if $(PUSH),push '$(PUSH)',build)

site-status: setup ## What runs on the embedded site
	@$(BIN)/python -m rehearsal.site status --site $(SITE)

clean: setup ## Remove the tool cache (`make down` first)
	@$(BIN)/python -m rehearsal.tools clean

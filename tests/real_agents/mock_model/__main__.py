"""Run a mock model by hand: prints its address, and every request. A scenario on stdin is played from then on.

python -m tests.real_agents.mock_model [COMMAND ...]
"""

import sys

from tests.real_agents.mock_model.server import MockModel, Scenario


def main() -> None:
    with MockModel(*sys.argv[1:] or ("echo hello",)) as model:
        print(model.url, "plays tool_then_done; others:", ", ".join(Scenario), flush=True)
        told = 0
        for line in sys.stdin:
            if line.strip():
                model.play(Scenario(line.strip()))
            for each in model.asked[told:]:
                print(each.dialect, each.path, each.model, f"results={each.results}", each.answer, flush=True)
            told = len(model.asked)
            print("strays:", model.strays, flush=True)


if __name__ == "__main__":
    main()

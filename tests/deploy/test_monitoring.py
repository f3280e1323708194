"""What the tests of the chain make of the shipped rules: the same, with less waiting."""

from tests.deploy.monitoring import hastened


def test_only_the_times_of_prometheus_are_shortened() -> None:
    rule = {
        "alert": "A",
        "expr": "rate(x_seconds_total[1h30m]) > 300 and max_over_time(y[1h:1m] offset 10m) > 5 and z5m == 0",
        "for": "2m",
        "keep_firing_for": "5m",
        "labels": {"window": "1h"},
    }
    [group] = hastened({"groups": [{"name": "g", "interval": "4m", "rules": [rule]}]}, 60)["groups"]
    assert "interval" not in group
    assert group["rules"] == [
        {
            **rule,
            "expr": "rate(x_seconds_total[90s]) > 300 and max_over_time(y[60s:1s] offset 10s) > 5 and z5m == 0",
            "for": "2s",
            "keep_firing_for": "5s",
        }
    ]

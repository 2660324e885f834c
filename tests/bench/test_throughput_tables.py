"""The tables of throughput in the README."""

from support.throughput import OUT, made

from bench.tables import throughput


def test_readme_tables_say_who_was_not_verified():
    found = [made("resident", [100.0, 90]), made("ffcv:stock", [50.0], verified=False, reason="dice of its own"),
             made("dali", [1.0], **OUT)]  # fmt: skip
    text = throughput.throughput(found)
    assert "| resident | 95 (100 %) |" in text
    assert "| ffcv:stock | 50 (52.6 %) NOT VERIFIED |" in text
    assert "| dali | none |" in text
    assert "- dali: did not open in 300 s (none, float32)" in text
    assert "| memory could take | 1,000,000 |" in text
    assert "| resident | 90-100 | 10.0 | 2.0 | 1 | 1,000 | equal |" in text
    assert "NOT VERIFIED: dice of its own" in text
    fed = [made("replay", [200.0], model="cnn"), made("resident", [100.0], model="cnn", stall=0.5)]
    assert "| cnn | resident | 100 (50 %) | 50.0 % | equal |" in throughput.feeding(fed)

"""``fastcifar doctor``: its exit code says whether something required is missing."""

import json

from fastcifar.system import doctor


def test_doctor_fails_when_something_required_is_missing(command, monkeypatch):
    def finding(ok, required):
        return doctor.Finding("libgarden", ok, "not found" if not ok else "1.0", "plant one", required)

    for ok, required, code in ((True, True, 0), (False, False, 0), (False, True, 1)):
        monkeypatch.setattr(doctor, "diagnose", lambda found=finding(ok, required): [found])
        answer = command("doctor")
        assert answer.code == code
        assert "libgarden" in answer.out
        answer = command("doctor", "--json")
        assert (answer.code, answer.err) == (code, "")
        assert json.loads(answer.out) == doctor.doctor_rows([finding(ok, required)])

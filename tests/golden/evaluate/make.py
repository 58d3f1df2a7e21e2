"""Numbers of scipy and statsmodels for core/src/evaluate/metric.rs.

    pip install scipy==1.17.1 statsmodels==0.15.0 && python make.py

pass@k is counted by scipy's hypergeometric distribution; the clustered error is statsmodels' cluster-robust one of a
regression on a constant, where its small-sample factor is G/(G-1).
"""

import json
import pathlib
import random

import numpy
import scipy.stats
import statsmodels.api
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint


def wilson(right, n):
    low, high = proportion_confint(right, n, alpha=0.05, method="wilson")
    return {"right": right, "n": n, "low": float(low), "high": float(high)}


def paired(gained, lost):
    test = mcnemar([[100, gained], [lost, 50]], exact=True)
    return {"gained": gained, "lost": lost, "p": float(test.pvalue)}


def pass_at_k(n, right, k):
    none = scipy.stats.hypergeom(n, right, k).pmf(0)
    return {"n": n, "right": right, "k": k, "value": float(1 - none)}


def clustered(clusters):
    values = numpy.array([value for cluster in clusters for value in cluster])
    names = numpy.array([name for name, cluster in enumerate(clusters) for _ in cluster])
    fit = statsmodels.api.OLS(values, numpy.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": names})
    return {"clusters": clusters, "mean": float(fit.params[0]), "error": float(fit.bse[0])}


draw = random.Random(7)
golden = {
    "wilson": [wilson(*row) for row in [(0, 10), (1, 10), (50, 100), (412, 600), (600, 600), (1234, 2000)]],
    "mcnemar": [paired(*row) for row in [(9, 1), (5, 5), (0, 3), (61, 32), (150, 100), (700, 500)]],
    "pass_at_k": [
        pass_at_k(*row) for row in [(4, 1, 2), (10, 3, 5), (200, 7, 10), (200, 7, 100), (6, 6, 1), (24, 2, 6)]
    ],
    "clustered": [
        clustered([[float(draw.random() < 0.4) for _ in range(size)] for size in sizes])
        for sizes in ([1] * 30, [4] * 25, [6, 6, 6, 3, 1, 4, 6, 6, 2, 6])
    ],
}
path = pathlib.Path(__file__).with_name("golden.json")
path.write_text(json.dumps(golden, indent=1) + "\n")

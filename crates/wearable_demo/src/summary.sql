-- The steps of the walkthrough's query, for any SQL engine. The tables are sensor_hrv,
-- sleep_diary and user_profile. The result has one row per occupation and gender.

-- Keep segments with good quality.
WITH quality AS (
    SELECT device_id, ts_start, hrv_sdnn, hrv_rmssd, heart_rate, steps
    FROM sensor_hrv
    WHERE missingness_score <= 0.35
),

-- Add the keys of the other tables: USER-00012 wears DEV-00012.
keyed AS (
    SELECT
        concat('USER-', split_part(device_id, '-', 2)) AS user_id,
        CAST(ts_start AS DATE) AS date,
        extract(HOUR FROM ts_start) AS hour_of_day,
        hrv_sdnn, hrv_rmssd, heart_rate, steps
    FROM quality
),

-- Keep segments that start from 22:00 to 23:59 or from 00:00 to 06:59.
night_segments AS (
    SELECT user_id, date, hrv_sdnn, hrv_rmssd, heart_rate, steps
    FROM keyed
    WHERE hour_of_day >= 22 OR hour_of_day <= 6
),

-- Aggregate to one row per user and calendar date.
nightly AS (
    SELECT
        user_id,
        date,
        count(*) AS num_segments,
        avg(heart_rate) AS night_mean_hr,
        avg(hrv_sdnn) AS night_mean_sdnn,
        avg(hrv_rmssd) AS night_mean_rmssd,
        sum(steps) AS night_steps
    FROM night_segments
    GROUP BY user_id, date
),

-- Join with the sleep diary and the users.
joined AS (
    SELECT
        sleep_diary.user_id AS user_id,
        sleep_diary.date AS date,
        sleep_diary.sleep_efficiency AS sleep_efficiency,
        nightly.night_mean_sdnn AS night_mean_sdnn,
        user_profile.occupation AS occupation,
        user_profile.gender AS gender
    FROM sleep_diary
    INNER JOIN nightly ON sleep_diary.user_id = nightly.user_id AND sleep_diary.date = nightly.date
    LEFT JOIN user_profile ON sleep_diary.user_id = user_profile.user_id
)

SELECT
    occupation,
    gender,
    count(*) AS n_nights,
    avg(sleep_efficiency) AS avg_sleep_efficiency,
    avg(night_mean_sdnn) AS avg_night_sdnn,
    corr(sleep_efficiency, night_mean_sdnn) AS corr_sleep_sdnn
FROM joined
GROUP BY occupation, gender
ORDER BY occupation, gender

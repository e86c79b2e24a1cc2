# The consumer's card.
card-title = मेरी बिजली
account = खाता
account-none = अभी कोई खाता पंजीकृत नहीं है।
state-good = ठीक है
state-low = कम बैलेंस
state-due = बकाया
lasts-days =
    बैलेंस लगभग { $days ->
        [one] { $days } दिन
       *[other] { $days } दिन
    } चलेगा
lasts-hours = बैलेंस एक दिन से कम चलेगा
lasts-year = बैलेंस एक साल से ज़्यादा चलेगा
lasts-nothing = बैलेंस ख़त्म हो गया है
lasts-unknown = कितने दिन चलेगा, यह पहला पूरा दिन होने पर दिखेगा
lasts-how =
    रोज़ { $per_day }, { $days ->
        [one] पिछले पूरे दिन के हिसाब से
       *[other] पिछले { $days } पूरे दिनों का औसत
    }
balance = बैलेंस
balance-due = बकाया राशि
balance-parts = { $booked } दर्ज, उसके बाद की खपत { $accrued } घटाकर
balance-parts-until = { $day } तक { $booked } दर्ज, उसके बाद की खपत { $accrued } घटाकर
recharge-now = अभी रिचार्ज करें
today = आज
yesterday = कल
today-until = अब तक, { $time } तक
day-booked = पूरा दिन, दर्ज
day-open = अभी दर्ज नहीं, { $time } तक
day-waiting = रीडिंग का इंतज़ार
heard = मीटर से संपर्क { $time }
heard-never = मीटर से अभी संपर्क नहीं हुआ
usage = खपत, पिछले 30 दिन
usage-until = { $time } तक पूरी
show-units = यूनिट
show-rupees = रुपये
usage-previous = पिछला दिन
usage-next = अगला दिन
usage-day = { $day }: { $units } यूनिट, { $rupees }
usage-day-so-far = { $day }, अब तक: { $units } यूनिट, { $rupees }
usage-day-none = { $day }: रीडिंग का इंतज़ार
usage-missing =
    { $count ->
        [one] { $count } रीडिंग बाकी
       *[other] { $count } रीडिंग बाकी
    }
usage-chart = पिछले 30 दिनों का चार्ट: कुल { $units } यूनिट, { $rupees }
usage-sum = { $days } दिनों में { $units } यूनिट, { $rupees }
usage-table = तालिका में देखें
legend-open = अभी दर्ज नहीं
legend-missing = रीडिंग का इंतज़ार
column-day = दिन
column-units = यूनिट
column-rupees = रुपये
column-state = स्थिति
state-booked = दर्ज
state-open = अभी दर्ज नहीं
recharge = रिचार्ज
recharge-amount = दूसरी राशि
recharge-unit = पूरे रुपये, कम से कम ₹100
recharge-chip-days =
    लगभग { $days ->
        [one] { $days } दिन
       *[other] { $days } दिन
    }
recharge-pay = { $amount } का रिचार्ज करें
recharge-pay-none = रिचार्ज करें
recharge-demo = यह नमूना है: असली पैसा नहीं कटता।
recharge-sending = भेजा जा रहा है… दोबारा भुगतान न करें।
recharge-done = { $amount } जमा हुए। बैलेंस { $balance }, { $time }।
recharge-reference = रेफ़रेंस नंबर { $id }
recharge-pending = { $amount } की पुष्टि का इंतज़ार। दोबारा भुगतान न करें।
recharge-check = फिर से जाँचें
